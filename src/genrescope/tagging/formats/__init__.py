"""The genre in a file's tags: read it, write it, and show that nothing else changed.

Tags are taken apart only as far as the genre needs: every other frame, comment, item and atom is
carried over as the bytes that it is, and what cannot be carried over is refused. Each format keeps
its own way of telling several genres:

- ID3v2.4 one frame of several values; ID3v2.3 and 2.2 one value joined by "/". A tag keeps its
  version. A file without one gets ID3v2.3, for many players and Windows read no other; where only
  an ID3v1 tag stood, its fields go into the new tag too, for players that read one do not look at
  the other.
- an ID3v1 tag's genre byte follows the first genre that has a number there; none is added.
- Vorbis comments, MP4 and ASF several values, APEv2 one item of several values. In an MP3, an
  APEv2 tag follows where it tells a genre already; it alone gets the genre where there is no ID3v2
  tag and it tells more than an ID3v1 tag does.

A format is one module that enters itself into `FORMATS`, and a line below.
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
    can_write,
    is_genre,
    other_tags,
    read_genres,
    write_genres,
)

__all__ = [
    "FORMATS",
    "Format",
    "Snapshot",
    "ape",
    "asf",
    "can_write",
    "chunks",
    "frames",
    "is_genre",
    "mp4",
    "other_tags",
    "read_genres",
    "tagless",
    "vorbis",
    "write_genres",
]
