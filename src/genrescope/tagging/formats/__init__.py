"""The genre in a file's tags: read it, write it, and show that nothing else changed.

Tags are parsed only as far as the genre requires: every other frame, comment, item and atom is
copied as bytes, and a file whose tags cannot be copied so is not written. Each format has its own
representation of several genres:

- ID3v2.4 one frame of several values; ID3v2.3 and 2.2 one value joined by "/". A tag keeps its
  version. A file without one gets ID3v2.3, as many players and Windows read no other. The fields of
  a lone ID3v1 tag are copied into it, as players that read an ID3v2 tag ignore the other.
- an ID3v1 tag's genre byte is set to the first genre that has a number; no such tag is added.
- Vorbis comments, MP4 and ASF several values, APEv2 one item of several values. An MP3's APEv2 tag
  is updated if it has a genre; it alone gets the genre if there is no ID3v2 tag and it has fields
  that an ID3v1 tag lacks.

A format is one module that registers itself in `FORMATS`, and a line below.
"""

from genrescope.tagging.formats import (
    ape,
    asf,
    chunks,
    frames,
    mp4,
    tagless,
    vorbis,
)
from genrescope.tagging.formats.form import FORMATS, Format, Snapshot
from genrescope.tagging.formats.genres import (
    TrackNames,
    can_write,
    is_genre,
    other_tags,
    read_artists,
    read_genres,
    read_names,
    write_genres,
)

__all__ = [
    "FORMATS",
    "Format",
    "Snapshot",
    "TrackNames",
    "ape",
    "asf",
    "can_write",
    "chunks",
    "frames",
    "is_genre",
    "mp4",
    "other_tags",
    "read_artists",
    "read_genres",
    "read_names",
    "tagless",
    "vorbis",
    "write_genres",
]
