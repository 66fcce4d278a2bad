"""Short clips of the formats whose tags genrescope knows, with tags as other programs do them."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from mutagen.aiff import AIFF
from mutagen.apev2 import BINARY, APEv2, APEValue
from mutagen.asf import ASF, ASFByteArrayAttribute
from mutagen.flac import FLAC, Picture
from mutagen.id3 import (
    APIC,
    COMM,
    ID3,
    PRIV,
    TALB,
    TCON,
    TDAT,
    TDRC,
    TIT2,
    TPE1,
    TRCK,
    TXXX,
    TYER,
    UFID,
)
from mutagen.mp4 import MP4, MP4Cover, MP4FreeForm
from mutagen.ogg import OggPage
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE
from mutagen.wavpack import WavPack
from PIL import Image

from genrescope.audio.ranges import audio_ranges, blocks

_BIG = np.random.default_rng(5).bytes(300_000)


def make_library(folder: Path, seconds: float = 3.0) -> dict[str, Path]:
    """Make one file of each kind.

    Parameters
    ----------
    folder
        Is made where it is missing.
    seconds
        Length of each clip.

    Returns
    -------
    dict of paths by names that state the format and what is special: "mp3-v23-art", …
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = _plain(folder / "plain", seconds)
    made = {}
    for name, (source, tag) in _KINDS.items():
        if source in plain:
            made[name] = folder / f"{name}{plain[source].suffix}"
            shutil.copy(plain[source], made[name])
            tag(made[name])
    return made


def decoded(path: Path) -> bytes:
    """Give a file's samples as FFmpeg decodes them, up to where it takes tags for audio."""
    samples = b""
    with av.open(str(path)) as container, suppress(av.InvalidDataError):
        for frame in container.decode(audio=0):
            samples += frame.to_ndarray().tobytes()
    return samples


def encode(
    path: Path, codec: str, seconds: float, sampling_rate: int = 44100, **options: Any
) -> Path:
    """Encode a chord with noise, or ``samples``: int16 (1, samples), of any length.

    The container is that of ``form`` or of the path's ending.
    """
    form, samples = options.pop("form", None), options.pop("samples", None)
    if samples is None:
        samples = _chord(seconds, sampling_rate)
    with av.open(str(path), "w", format=form, options=options.pop("container", {})) as container:
        film = container.add_stream("mpeg4", rate=10) if options.pop("film", False) else None
        stream = container.add_stream(codec, rate=sampling_rate, layout="mono")
        stream.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = sampling_rate
        resampler = av.AudioResampler(stream.codec_context.format or "s16", "mono", sampling_rate)
        if film:
            _add_film(container, film)
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        at = 0
        while part := fifo.read(size, partial=True):
            part.pts = at
            at += part.samples
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def picture(side: int = 64) -> bytes:
    """Make a small JPEG."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(side).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def id3v1(title: str, genre: int) -> bytes:
    """Make an ID3v1.1 tag."""
    fields = struct.pack("30s30s30s4s28s", title.encode(), b"Someone", b"Album", b"1999", b"fine")
    return b"TAG" + fields + bytes([0, 7, genre])


def id3v22(*frames: tuple[bytes, bytes]) -> bytes:
    """Make an ID3v2.2 tag, as iTunes used to write them."""
    body = b"".join(name + len(data).to_bytes(3) + data for name, data in frames) + bytes(200)
    return id3_head(2, len(body)) + body


def id3_head(version: int, size: int, flags: int = 0) -> bytes:
    """Make the ten bytes in front of an ID3v2 tag of ``size`` bytes more."""
    return b"ID3" + bytes([version, 0, flags, *(size >> shift & 0x7F for shift in (21, 14, 7, 0))])


def prepend(path: Path, data: bytes) -> None:
    """Put bytes in front of a file."""
    path.write_bytes(data + path.read_bytes())


def append(path: Path, data: bytes) -> None:
    """Put bytes behind a file."""
    path.write_bytes(path.read_bytes() + data)


def _chord(seconds: float, sampling_rate: int) -> np.ndarray:
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    sound = sum(np.sin(2 * np.pi * f * time) for f in (220, 277.2, 329.6)) / 4
    sound += 0.02 * np.random.default_rng(0).standard_normal(len(time))
    return (sound * 20000).astype(np.int16)[None]


def _add_film(container: Any, stream: Any) -> None:
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for shade in range(10):
        image = np.full((48, 64, 3), shade * 20, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = shade, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _plain(folder: Path, seconds: float) -> dict[str, Path]:
    """Encode the clips, without tags as far as the muxer allows."""
    folder.mkdir(exist_ok=True)
    made = {}
    for name, (ending, codec, options) in _CLIPS.items():
        settings = dict(options)
        try:
            path = folder / f"{name}{ending}"
            made[name] = encode(path, codec, seconds, settings.pop("rate", 44100), **settings)
        except (av.FFmpegError, ValueError) as error:  # this build of FFmpeg has no such encoder
            if codec not in _OPTIONAL:
                raise AssertionError(f"{name} could not be encoded") from error
    made["speex"] = _speex(folder / "speex.ogg")
    chord = _chord(seconds, 44100)[0]
    for ending in ("ogg", "wav", "aiff"):
        made[ending] = folder / f"{ending}.{ending}"
        soundfile.write(made[ending], chord, 44100)
    return made


def _speex(path: Path) -> Path:
    """Make what is Speex to all but a decoder: real headers, then noise."""
    head = b"Speex   " + b"1.2".ljust(20, b"\0")
    head += struct.pack("<13i", 1, 80, 16000, 1, 4, 1, -1, 320, 0, 1, 0, 0, 0)
    comments = struct.pack("<I4sI", 4, b"test", 0)
    noise = np.random.default_rng(2)
    pages = [[head], [comments], *([noise.bytes(70) for _ in range(50)] for _ in range(4))]
    data = b""
    for number, packets in enumerate(pages):
        page = OggPage()
        page.serial, page.sequence, page.packets = 77, number, packets
        page.position = max(number - 1, 0) * 16000
        page.first, page.last = number == 0, number == len(pages) - 1
        data += page.write()
    path.write_bytes(data)
    return path


_OPTIONAL = {"wavpack", "tta", "wmav2"}
_BARE = {"id3v2_version": "0"}
_CLIPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mp3": (".mp3", "libmp3lame", {"container": _BARE}),
    "aac": (".aac", "aac", {"form": "adts"}),
    "m4a": (".m4a", "aac", {"form": "ipod"}),
    "m4a-fast": (".m4a", "aac", {"form": "ipod", "container": {"movflags": "faststart"}}),
    "alac": (".m4a", "alac", {"form": "ipod"}),
    "mp4-film": (".mp4", "aac", {"film": True}),
    "mp4-fragments": (
        ".mp4",
        "aac",
        {"container": {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}},
    ),
    "mov": (".mov", "aac", {}),
    "flac": (".flac", "flac", {}),
    "opus": (".opus", "libopus", {"rate": 48000}),
    "ogg-flac": (".oga", "flac", {"form": "oga"}),
    "wma": (".wma", "wmav2", {}),
    "wv": (".wv", "wavpack", {}),
    "tta": (".tta", "tta", {}),
    "aifc": (".aifc", "pcm_mulaw", {"form": "aiff", "rate": 44100}),
    "mka": (".mka", "flac", {"form": "matroska"}),
}


# --- Tags ----------------------------------------------------------------------------------------


def _bare(path: Path) -> None:
    """Leave the file as the encoder made it."""


def _v23_art(path: Path) -> None:
    tags = ID3()
    tags.add(TIT2(encoding=0, text="Title"))
    tags.add(TPE1(encoding=1, text="Ärtist"))
    tags.add(TYER(encoding=0, text="1999"))
    tags.add(TDAT(encoding=0, text="3112"))
    tags.add(TCON(encoding=0, text="(17)"))
    tags.add(APIC(encoding=0, mime="image/jpeg", type=3, desc="front", data=picture()))
    tags.add(APIC(encoding=0, mime="image/png", type=4, desc="back", data=_BIG))
    tags.add(PRIV(owner="someone", data=b"\0\1\2\xff\xfe"))
    tags.unknown_frames = [b"XYZW" + (5).to_bytes(4) + b"\0\0" + b"\0what"]
    tags._unknown_v2_version = 3
    tags.save(path, v2_version=3)


def _v24_two(path: Path) -> None:
    tags = ID3()
    tags.add(TIT2(encoding=1, text="Títle"))
    tags.add(TDRC(encoding=3, text="2001-02-03"))
    tags.add(TCON(encoding=1, text=["Jazz", "Blues"]))
    tags.add(TXXX(encoding=3, desc="MOOD", text=["calm", "wet"]))
    tags.add(COMM(encoding=1, lang="eng", desc="", text="a comment"))
    tags.add(COMM(encoding=3, lang="deu", desc="über", text="noch einer"))
    tags.add(UFID(owner="http://example.org", data=b"abc"))
    tags.add(APIC(encoding=3, mime="image/jpeg", type=3, desc="", data=picture(100)))
    tags.save(path, v2_version=4)


def _v22(path: Path) -> None:
    text = (b"TT2", b"\0Old title\0"), (b"TCO", b"\0(8)\0"), (b"TYE", b"\0" + b"1998\0")
    prepend(path, id3v22(*text, (b"PIC", b"\0JPG\3\0" + picture()), (b"XQZ", b"unknown")))


def _v1(path: Path) -> None:
    append(path, id3v1("Only title", 17))


def _v1_none(path: Path) -> None:
    append(path, id3v1("No genre", 255))


def _v24_v1_ape(path: Path) -> None:
    _ape(path)
    append(path, id3v1("Three tags", 9))
    tags = ID3()
    tags.add(TIT2(encoding=3, text="Three tags"))
    tags.add(TCON(encoding=3, text=["Metal"]))
    _keep_tail(path, lambda: tags.save(path, v1=1))


def _keep_tail(path: Path, save: Callable[[], None]) -> None:
    tail = path.read_bytes()[-128:]
    save()
    path.write_bytes(path.read_bytes()[:-128] + tail)


def _ape(path: Path) -> None:
    tags = APEv2()
    tags["Title"] = "Äpe title"
    tags["Genre"] = ["Ambient", "Drone"]
    tags["Cover Art (Front)"] = APEValue(b"cover.jpg\0" + picture(), BINARY)
    tags.save(path)


def _v24_unsynchronised(path: Path) -> None:
    """Write ff 00 for ff in all frames, as the tag's own flag alone states."""
    frames = [(b"TIT2", b"\1\xff\xfeT\0i\0"), (b"TCON", b"\3Rock"), (b"PRIV", b"me\0\xff\xe0\xff")]
    body = b""
    for name, data in frames:
        stuffed = data.replace(b"\xff", b"\xff\0")
        body += name + struct.pack(">IH", len(stuffed), 0) + stuffed
    prepend(path, id3_head(4, len(body) + 64, flags=0x80) + body + bytes(64))


def _v23_unsynchronised(path: Path) -> None:
    """Write ff 00 for ff in the whole tag; the sizes of frames are those before."""
    frames = [
        (b"TIT2", b"\1\xff\xfeT\0i\0"),
        (b"TCON", b"\0(17)"),
        (b"PRIV", b"me\0" + b"\xff" * 256),
    ]
    body = b"".join(name + struct.pack(">IH", len(data), 0) + data for name, data in frames)
    body = body.replace(b"\xff", b"\xff\0") + bytes(64)
    prepend(path, id3_head(3, len(body), flags=0x80) + body)


def _stacked(path: Path) -> None:
    _v24_two(path)
    inner = io.BytesIO()
    tags = ID3()
    tags.add(TIT2(encoding=3, text="beneath"))
    tags.save(inner)
    data = path.read_bytes()
    size = ID3(path).size
    path.write_bytes(data[:size] + inner.getvalue() + data[size:])


def _lyrics(path: Path) -> None:
    lyrics = b"LYRICSBEGININD0000200LYR00005la la"
    append(path, lyrics + f"{len(lyrics):06}".encode() + b"LYRICS200" + id3v1("With lyrics", 20))
    _v24_two_keeping(path)


def _v24_two_keeping(path: Path) -> None:
    tail = path.read_bytes()[-128:]
    _v24_two(path)
    path.write_bytes(path.read_bytes()[:-128] + tail)


def _id3_of(kind: Callable[[Path], Any]) -> Callable[[Path], None]:
    def tag(path: Path) -> None:
        file = kind(path)
        file.add_tags()
        file.tags.add(TIT2(encoding=3, text="Chunked"))
        file.tags.add(TCON(encoding=3, text=["Jazz"]))
        file.tags.add(TRCK(encoding=3, text="1/9"))
        file.tags.add(TALB(encoding=1, text="Álbum"))
        file.tags.add(APIC(encoding=0, mime="image/jpeg", type=3, desc="", data=picture()))
        file.save()

    return tag


def _info(*items: tuple[bytes, bytes]) -> Callable[[Path], None]:
    def tag(path: Path) -> None:
        inner = b"INFO"
        for name, text in items:
            value = text + b"\0" * (2 - len(text) % 2)
            inner += name + struct.pack("<I", len(value)) + value
        data = path.read_bytes() + b"LIST" + struct.pack("<I", len(inner)) + inner
        path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])

    return tag


def _info_and_id3(path: Path) -> None:
    _info((b"INAM", b"Named"), (b"IART", b"Someone"))(path)
    _id3_of(WAVE)(path)


def _mp4(path: Path) -> None:
    file = MP4(path)
    if file.tags is None:
        file.add_tags()
    file["\xa9nam"] = ["Títle"]
    file["\xa9gen"] = ["Folk"]
    file["trkn"] = [(3, 12)]
    file["cpil"] = True
    file["tmpo"] = [120]
    file["covr"] = [MP4Cover(picture(), MP4Cover.FORMAT_JPEG)]
    file["----:com.apple.iTunes:MOOD"] = [MP4FreeForm(b"calm"), MP4FreeForm(b"wet")]
    file["----:org.example:raw"] = [MP4FreeForm(b"\0\1\2", dataformat=0)]
    file.save()


def _mp4_gnre(path: Path) -> None:
    """Turn the genre into a number, at the same length of the file."""
    _mp4(path)
    file = MP4(path)
    file["\xa9gen"] = ["ab"]
    file.save()
    text = struct.pack(">I4sI4sII", 26, b"\xa9gen", 18, b"data", 1, 0) + b"ab"
    number = struct.pack(">I4sI4sII", 26, b"gnre", 18, b"data", 0, 0) + struct.pack(">H", 18)
    data = path.read_bytes()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, number))


def _vorbis(kind: Callable[[Path], Any], *, art: bytes = b"", padding: int | None = None):
    def tag(path: Path) -> None:
        file = kind(path)
        if file.tags is None:
            file.add_tags()
        file.tags.extend(
            [
                ("TITLE", "Títle"),
                ("genre", "Funk"),
                ("ARTIST", "one"),
                ("Artist", "two"),
                ("GENRE", "Soul"),
                ("Comment", "a=b; c"),
            ]
        )
        if art:
            file.tags.append(("METADATA_BLOCK_PICTURE", art.hex()))
        file.save(padding=None if padding is None else lambda _: padding)

    return tag


def _flac(path: Path, padding: int) -> None:
    _vorbis(FLAC)(path)
    file = FLAC(path)
    for kind, data in ((3, picture()), (4, _BIG)):
        image = Picture()
        image.type, image.mime, image.data, image.desc = kind, "image/jpeg", data, "böth"
        file.add_picture(image)
    file.save(padding=lambda _: padding)
    points = struct.pack(">QQH", 0, 0, 4096) + b"\xff" * 8 + bytes(10)
    _insert_flac_blocks(path, (3, points), (2, b"test" + bytes(range(40))))


def _insert_flac_blocks(path: Path, *found: tuple[int, bytes]) -> None:
    data = path.read_bytes()
    after = 8 + int.from_bytes(data[5:8])  # behind the stream information
    new = b"".join(bytes([code]) + len(body).to_bytes(3) + body for code, body in found)
    path.write_bytes(data[:after] + new + data[after:])


def _no_comments(path: Path) -> None:
    """Leave out the comments, which other encoders than FFmpeg's do."""
    data, at, kept = path.read_bytes(), 4, []
    while not kept or not kept[-1][0] & 0x80:
        size = 4 + int.from_bytes(data[at + 1 : at + 4])
        kept.append(data[at : at + size])
        at += size
    kept = [block for block in kept if block[0] & 0x7F == 0]
    path.write_bytes(b"fLaC" + bytes([kept[0][0] | 0x80]) + kept[0][1:] + data[at:])


def _flac_id3(path: Path) -> None:
    """Add ID3 tags, which do not belong into FLAC."""
    _vorbis(FLAC)(path)
    outer = io.BytesIO()
    tags = ID3()
    tags.add(TCON(encoding=3, text=["Polka"]))
    tags.save(outer)
    prepend(path, outer.getvalue())
    append(path, id3v1("Flac", 3))


def _asf(path: Path) -> None:
    file = ASF(path)
    file["Title"] = "Títle"
    file["WM/Genre"] = ["Pop", "Disco"]
    file["WM/Mood"] = ["calm", "wet"]
    file["WM/Picture"] = [ASFByteArrayAttribute(b"\3" + picture())]
    file.save()


def _tagged_tta(path: Path) -> None:
    tags = TrueAudio(path)
    tags.add_tags()
    tags.tags.add(TCON(encoding=3, text=["House"]))
    tags.tags.add(TIT2(encoding=3, text="True"))
    tags.save()


def _tagged_wavpack(path: Path) -> None:
    WavPack(path)
    _ape(path)


_KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "mp3-bare": ("mp3", _bare),
    "mp3-v23-art": ("mp3", _v23_art),
    "mp3-v24-two": ("mp3", _v24_two),
    "mp3-v22": ("mp3", _v22),
    "mp3-v1": ("mp3", _v1),
    "mp3-v1-none": ("mp3", _v1_none),
    "mp3-ape": ("mp3", _ape),
    "mp3-v24-v1-ape": ("mp3", _v24_v1_ape),
    "mp3-v23-unsynchronised": ("mp3", _v23_unsynchronised),
    "mp3-v24-unsynchronised": ("mp3", _v24_unsynchronised),
    "mp3-stacked": ("mp3", _stacked),
    "mp3-lyrics": ("mp3", _lyrics),
    "aac-bare": ("aac", _bare),
    "aac-v24": ("aac", _v24_two),
    "m4a-bare": ("m4a", _bare),
    "m4a-end": ("m4a", _mp4),
    "m4a-fast": ("m4a-fast", _mp4),
    "m4a-gnre": ("m4a-fast", _mp4_gnre),
    "m4a-alac": ("alac", _mp4),
    "mp4-film": ("mp4-film", _mp4),
    "mp4-fragments": ("mp4-fragments", _bare),
    "mov-bare": ("mov", _bare),
    "flac-bare": ("flac", _bare),
    "flac-tight": ("flac", lambda path: _flac(path, 0)),
    "flac-padded": ("flac", lambda path: _flac(path, 8192)),
    "flac-no-comments": ("flac", _no_comments),
    "flac-id3": ("flac", _flac_id3),
    "ogg-bare": ("ogg", _bare),
    "ogg-tagged": ("ogg", _vorbis(OggVorbis)),
    "ogg-art": ("ogg", _vorbis(OggVorbis, art=_BIG[:60_000], padding=0)),
    "ogg-flac": ("ogg-flac", _vorbis(OggFLAC)),
    "ogg-speex": ("speex", _vorbis(OggSpeex)),
    "opus-bare": ("opus", _bare),
    "opus-art": ("opus", _vorbis(OggOpus, art=_BIG[:60_000])),
    "wav-bare": ("wav", _bare),
    "wav-id3-info": ("wav", _info_and_id3),
    "wav-ignr": ("wav", _info((b"INAM", b"Named"), (b"IGNR", b"Blues"))),
    "aiff-bare": ("aiff", _bare),
    "aiff-id3": ("aiff", _id3_of(AIFF)),
    "aifc-id3": ("aifc", _id3_of(AIFF)),
    "wma-tagged": ("wma", _asf),
    "wma-bare": ("wma", _bare),
    "wv-bare": ("wv", _bare),
    "wv-ape": ("wv", _tagged_wavpack),
    "tta-id3": ("tta", _tagged_tta),
    "mka-bare": ("mka", _bare),
}

NAMES = sorted(_KINDS)
"""What `make_library` makes wherever FFmpeg has all the encoders."""

SOURCES = {name: source for name, (source, _) in _KINDS.items()}
"""The untagged clip in the folder ``plain`` that each is made from."""


def audio_digest(path: Path) -> bytes:
    """Digest of all of a file's audio: equal for two files if their audio is, byte for byte."""
    digest = blake2b(digest_size=16)
    for block in blocks(path, audio_ranges(path)):
        digest.update(block)
    return digest.digest()
