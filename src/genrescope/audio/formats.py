"""Which files are audio: file name extensions, and the demuxers that FFmpeg may use.

FFmpeg's demuxers include playlists, lists of other files, devices and image sequences, through
which an untrusted file could make FFmpeg open other files and addresses. So FFmpeg may use only
the demuxers below: audio and video containers that hold their own samples.
"""

from __future__ import annotations

import re
from pathlib import PurePath

_BY_DEMUXER: dict[str, str] = {
    # FFmpeg's name of the demuxer: extensions of the files that it reads.
    "aac": "aac adts",
    "ac3": "ac3",
    "aea": "aea",
    "aiff": "aif aiff aifc",
    "amr": "amr",
    "amrnb": "",
    "amrwb": "awb",
    "ape": "ape apl mac",
    "asf": "wma asf wmv",
    "ast": "ast",
    "au": "au snd",
    "avi": "avi",
    "caf": "caf",
    "dsf": "dsf",
    "dts": "dts",
    "dtshd": "dtshd",
    "eac3": "eac3 ec3",
    "flac": "flac",
    "flv": "flv f4v",
    "gsm": "gsm",
    "iff": "dff iff 8svx",
    "ircam": "sf ircam",
    "loas": "loas latm",
    "matroska": "mka mkv",
    "mlp": "mlp",
    "mov": "m4a m4b m4p m4r mp4 m4v mov 3gp 3gpp 3g2 3ga qt aax",
    "mp3": "mp3 mp2 mp1 mpa mpga bit",
    "mpc": "mpc mp+",
    "mpc8": "",
    "mpeg": "mpg mpeg vob",
    "mpegts": "ts m2ts mts",
    "mxf": "mxf",
    "nistsphere": "nist sph",
    "nut": "nut",
    "ogg": "ogg oga ogv ogx opus spx",
    "oma": "oma aa3 at3",
    "osq": "osq",
    "paf": "paf fap",
    "pvf": "pvf",
    "qcp": "qcp",
    "rm": "rm ra rmvb ram",
    "shn": "shn",
    "sox": "sox",
    "tak": "tak",
    "truehd": "thd truehd",
    "tta": "tta",
    "voc": "voc",
    "w64": "w64",
    "wav": "wav wave bwf rf64 amb",
    "webm": "webm weba",
    "wsd": "wsd",
    "wtv": "wtv",
    "wv": "wv",
    "wve": "wve",
    "xwma": "xwma",
}
_NOT_AUDIO = {"ram", "aax", "bit", "mac", "nut", "ts", "iff", "sf", "snd"}
# Extensions that usually mean something else: a list of addresses, an encrypted book, source code.

DEMUXERS = ",".join(_BY_DEMUXER)
"""Value of FFmpeg's option ``format_whitelist``."""

EXTENSIONS = frozenset(
    f".{ending}" for endings in _BY_DEMUXER.values() for ending in endings.split()
) - {f".{ending}" for ending in _NOT_AUDIO}
"""Audio file name extensions, in lower case."""

_MAGIC = re.compile(
    rb"ID3[\x02-\x04]|fLaC|OggS\0|RIFF....WAVE|RF64....WAVE|BW64....WAVE|FORM....AIF[FC]|"
    rb"wvpk|MAC |MPCK|MP\+|TTA1|tBaK|OFR |caff\0\x01|\.snd\0\0|#!AMR|DSD |"
    rb"....ftyp(?:M4[ABP]|mp4|isom|3g|qt)|\x30\x26\xb2\x75\x8e\x66\xcf\x11|"
    # MPEG frame headers: weak evidence, but enough to report a file that would be skipped.
    rb"\xff[\xfa\xfb\xf3\xf2][\x10-\xef][\x00-\xff]|\xff[\xf1\xf9][\x40-\x6f]",
    re.DOTALL,
)


def is_audio(path: PurePath) -> bool:
    """Return whether a file is audio by its name; hidden files are not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def may_be_audio(path: PurePath, head: bytes) -> bool:
    """Return whether a file may be audio by its name or its first 16 bytes; hidden ones, too."""
    return path.suffix.lower() in EXTENSIONS or looks_like_audio(head)


def looks_like_audio(head: bytes) -> bool:
    """Return whether a file may be audio by its first 16 bytes, whatever its name."""
    return _MAGIC.match(head) is not None
