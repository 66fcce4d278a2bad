"""A file that names another one, or an address, never makes genrescope open that.

The named files lie in a folder that the system watches: opening one, in whatever process, is
noticed. So is a connection to the named port.
"""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import soundfile

from genrescope import audio, sample
from genrescope.audio.formats import DEMUXERS
from genrescope.audio.source import View
from genrescope.errors import InputError
from web_server import running

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="watches files as Linux does"),
    pytest.mark.xdist_group("canary"),
]

_IN_OPEN = 0x20
OTHER_ENDINGS = ("mp3", "wav", "m4a")


@dataclass
class Canary:
    """Files and a port that nobody may touch, and how to name them from the folder above."""

    folder: Path
    port: int
    _notices: int
    _server: socket.socket

    def names(self, ending: str = "wav") -> dict[str, str]:
        path = self.folder / f"canary.{ending}"
        return {
            "absolute": str(path),
            "relative": f"{self.folder.name}/{path.name}",
            "upwards": f"../{self.folder.parent.name}/{self.folder.name}/{path.name}",
            "file": f"file://{path}",
            "plain-file": f"file:{path}",
            "http": f"http://127.0.0.1:{self.port}/canary.{ending}",
            "tcp": f"tcp://127.0.0.1:{self.port}",
            "subfile": f"subfile,,start,0,end,0,,:{path}",
            "concat": f"concat:{path}|{path}",
            "crypto": f"crypto+file://{path}",
            "async": f"async:{path}",
            "cache": f"cache:{path}",
        }

    def touched(self) -> list[str]:
        """What was opened, and whether somebody connected, since this was last asked."""
        found = []
        with suppress(BlockingIOError):
            notices = os.read(self._notices, 2**16)
            while notices:
                length = struct.unpack("iIII", notices[:16])[3]
                found.append(notices[16 : 16 + length].rstrip(b"\0").decode())
                notices = notices[16 + length :]
        with suppress(BlockingIOError):
            while True:
                self._server.accept()[0].close()
                found.append("a connection")
        return found


@contextmanager
def watched(folder: Path) -> Iterator[Canary]:
    """Make the named files, and watch them."""
    folder.mkdir(parents=True)
    sound, sampling_rate = soundfile.read(sample("pulse"), dtype="float32")
    for ending in ("wav", "mp3", "flac"):
        soundfile.write(folder / f"canary.{ending}", sound[: 3 * sampling_rate], sampling_rate)
    for ending in ("ts", "aac", "m4a", "mp4", "m4s", "png", "sub", "mxf", "mkv", "rm", "bin"):
        shutil.copy(folder / "canary.wav", folder / f"canary.{ending}")
    libc = ctypes.CDLL(None, use_errno=True)
    notices = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert notices >= 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        assert libc.inotify_add_watch(notices, os.fsencode(folder), _IN_OPEN) > 0
        try:
            yield Canary(folder, server.getsockname()[1], notices, server)
        finally:
            os.close(notices)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    # A folder that the walk leaves out, of a name that FFmpeg's concat demuxer calls safe.
    with watched(tmp_path / "baits" / "__MACOSX") as made:
        yield made


def texts(url: str) -> dict[str, tuple[str, str]]:
    """Baits that are text, by name: their ending, and what they say."""
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT3S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>'
        '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="128000">'
        f"<BaseURL>{url}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>"
    )
    imf = (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        f"<Id>urn:uuid:0</Id><Path>{url}</Path></CompositionPlaylist>"
    )
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n"
    sdp = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
        f"a=control:{url}\n"
    )
    return {
        "hls": ("m3u8", f"{head}#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"),
        "hls-live": ("m3u8", f"{head}#EXTINF:10,\n{url}\n"),
        "hls-master": ("m3u8", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n"),
        "hls-map": ("m3u8", f'{head}#EXT-X-MAP:URI="{url}"\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n'),
        "hls-key": (
            "m3u8",
            f'{head}#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n',
        ),
        "m3u": ("m3u", f"#EXTM3U\n#EXTINF:10,x\n{url}\n"),
        "pls": ("pls", f"[playlist]\nFile1={url}\nNumberOfEntries=1\nVersion=2\n"),
        "xspf": (
            "xspf",
            f"<playlist><trackList><track><location>{url}</location></track></trackList></playlist>",
        ),
        "asx": ("asx", f'<ASX version="3.0"><ENTRY><REF HREF="{url}"/></ENTRY></ASX>'),
        "asf-reference": ("asf", f"[Reference]\r\nRef1={url}\r\nRef2={url}\r\n"),
        "smil": ("smil", f'<smil><body><audio src="{url}"/></body></smil>'),
        "ram": ("ram", f"{url}\n"),
        "rpm": ("rpm", f"{url}\n"),
        "cue": ("cue", f'FILE "{url}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'),
        "ffconcat": ("ffconcat", f"ffconcat version 1.0\nfile '{url}'\n"),
        "concat": ("txt", f"file '{url}'\nduration 3\n"),
        "dash": ("mpd", dash),
        "imf": ("xml", imf),
        "sdp": ("sdp", sdp),
        "rtsp": ("rtsp", f"RTSPtext\n{url}\n"),
        "quicktime-text": (
            "mov",
            f'<?quicktime type="application/x-quicktime-media-link"?><embed src="{url}"/>',
        ),
        "vobsub": (
            "idx",
            "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"
            f"timestamp: 00:00:01:000, filepos: 000000000\n# {url}\n",
        ),
        "mpsub": ("sub", f"FORMAT=TIME\nTITLE={url}\n1 2\n{url}\n"),
        "avisynth": ("avs", f'DirectShowSource("{url}")\n'),
        "vapoursynth": ("vpy", f'import vapoursynth\nvapoursynth.core.ffms2.Source("{url}")\n'),
        "ffmetadata": ("ffmeta", f";FFMETADATA1\nfile={url}\n"),
        "lavfi": ("lavfi", f"amovie={url}\n"),
        "lavfi-movie": ("txt", f"movie=filename={url}[out0]\n"),
        "realtext": ("rt", f'<window><a href="{url}">x</a></window>'),
        "svg": ("svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'),
        "tedcaptions": ("json", '{"captions":[{"content":"' + url + '"}]}'),
        "smooth": (
            "ismc",
            f'<SmoothStreamingMedia><StreamIndex Url="{url}"/></SmoothStreamingMedia>',
        ),
        "webm-dash": (
            "mpd",
            f"<MPD><Period><AdaptationSet><BaseURL>{url}</BaseURL></AdaptationSet></Period></MPD>",
        ),
    }


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def second(form: str, codec: str, **tags: str) -> bytes:
    """A second of silence."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=22050, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 22050), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 22050
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def referring_movie(url: str, kind: bytes) -> bytes:
    """A film whose sound lies in another file, as QuickTime may have it."""
    content = second("mov", "pcm_s16be")
    name = url.encode()
    if kind == b"alis":  # of the Macintosh: the path is a field behind a long fixed head
        paths = struct.pack(">hH", 18, len(name)) + name + bytes(len(name) % 2)
        paths += struct.pack(">hH", 2, len(name)) + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
        entry = box(kind, bytes(4), bytes(6), b"\0\2", bytes(142), paths)
    else:
        entry = box(kind, bytes(4), name, b"\0")
    dref = box(b"dref", bytes(4), struct.pack(">I", 1), entry)
    return _replaced(content, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), dref)


def _replaced(content: bytes, names: tuple[bytes, ...], new: bytes) -> bytes:
    out, at = b"", 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        if name == names[0]:
            inner = content[at + 8 : at + size]
            out += new if len(names) == 1 else box(name, _replaced(inner, names[1:], new))
        else:
            out += content[at : at + size]
        at += size
    return out


def binaries(url: str) -> dict[str, tuple[str, bytes]]:
    """Baits that are not text."""
    made = {
        f"mov-{kind.decode().strip()}": ("mov", referring_movie(url, kind))
        for kind in (b"url ", b"alis", b"urn ")
    }
    # As ordered chapters have it: the names of the files before and behind.
    links = {"PREV_FILENAME": url, "NEXT_FILENAME": url, "title": url}
    made["matroska"] = "mkv", second("matroska", "pcm_s16le", **links)
    # An AVI and an ASF that hold nothing but a script command with an address.
    made["riff"] = "avi", b"RIFF" + struct.pack("<I", 40 + len(url)) + b"AVI LIST" + url.encode()
    script = bytes.fromhex("301acb1e0b 0b d011a39b00a0c90348f6".replace(" ", ""))
    made["asf"] = (
        "asf",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
        + bytes(14)
        + script
        + url.encode("utf-16-le"),
    )
    made["flv"] = (
        "flv",
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x12"
        + struct.pack(">I", len(url))[1:]
        + bytes(7)
        + url.encode(),
    )
    return made


def lay_baits(folder: Path, canary: Canary) -> list[Path]:
    """Write every bait, by its own ending and under those of audio."""
    baits = []
    for ending in ("wav", "ts", "flac"):
        for way, url in canary.names(ending).items():
            if ending != "wav" and way not in {"absolute", "relative", "file"}:
                continue
            contents = {name: (own, text.encode()) for name, (own, text) in texts(url).items()}
            contents |= binaries(url)
            for name, (own, content) in contents.items():
                endings = (own, *OTHER_ENDINGS) if way in {"absolute", "relative"} else (own, "mp3")
                for bait_ending in endings:
                    path = folder / f"{name}-{way}-{ending}.{bait_ending}"
                    path.write_bytes(content)
                    baits.append(path)
    # What is looked for beside a file of such a name.
    for name, beside in (("sd2.sd2", "._sd2.sd2"), ("vobsub.idx", "vobsub.sub")):
        (folder / name).write_bytes(contents["vobsub"][1] if name.endswith("idx") else bytes(4096))
        (folder / beside).symlink_to(canary.folder / "canary.sub")
        baits.append(folder / name)
    # A pattern of names, as FFmpeg's demuxer of pictures has it.
    (folder / "still1.ppm").symlink_to(canary.folder / "canary.png")
    (folder / "still%d.ppm").write_bytes(b"P6\n1 1\n255\n\0\0\0")
    baits.append(folder / "still%d.ppm")
    return baits


def genrescope(*arguments: object, expected: tuple[int, ...]) -> tuple[str, str]:
    command = [sys.executable, "-m", "genrescope", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in expected, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_the_watch_notices_and_the_baits_are_bait(tmp_path: Path, canary: Canary) -> None:
    assert canary.touched() == []
    (canary.folder / "canary.wav").read_bytes()
    assert canary.touched() == ["canary.wav"]
    socket.create_connection(("127.0.0.1", canary.port)).close()
    assert canary.touched() == ["a connection"]
    lay_baits(canary.folder.parent, canary)
    # FFmpeg, given a path and left to itself, follows these.
    options = {"enable_drefs": "1", "use_absolute_path": "1"}
    for name in (
        "ffconcat-relative-wav.mp3",
        "hls-absolute-wav.m3u8",
        "hls-key-absolute-wav.m3u8",
        "mov-alis-absolute-wav.mp3",
        "vobsub.idx",
        "still%d.ppm",
    ):
        bait = canary.folder.parent / name
        with suppress(av.FFmpegError), av.open(str(bait), timeout=1.0, options=options):
            pass
        assert canary.touched(), name


def test_ffmpeg_gets_the_opened_file_and_the_list_of_demuxers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each of these alone keeps nearly all baits out, so that their tests would not miss one.
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    real, sound = av.open, second("matroska", "pcm_s16le")

    def spy(*arguments: Any, **options: Any) -> Any:
        given.append((arguments, options))
        return real(*arguments, **options)

    monkeypatch.setattr(av, "open", spy)
    path = tmp_path / "bait.mp3"
    path.write_text(texts("/etc/hostname")["ffconcat"][1])
    with pytest.raises(InputError):
        audio.decode(path)
    path.write_bytes(sound)
    audio.decode(path)
    assert len(given) >= 2
    for (file, *_), options in given:
        assert isinstance(file, View)
        assert options["container_options"]["format_whitelist"] == DEMUXERS
        assert options["container_options"]["protocol_whitelist"] == ""
        with pytest.raises(PermissionError):
            options["io_open"]("/etc/hostname", 1, {})


def test_the_audio_layer_opens_nothing_but_the_file(tmp_path: Path, canary: Canary) -> None:
    baits = lay_baits(tmp_path / "baits", canary)
    assert len(baits) > 500
    ways: dict[str, Callable[[Path], Any]] = {
        "decode": audio.decode,
        "excerpts": lambda path: audio.excerpts(path, 16000, span_s=0.1, max_spans=2),
        "pieces": lambda path: list(audio.pieces(path, 16000, 1000)),
        "length": audio.length,
    }
    for path in baits:
        for name, way in ways.items():
            with suppress(InputError):
                way(path)
            assert canary.touched() == [], (name, path.name)


@pytest.mark.slow
def test_no_command_opens_what_a_file_names(tmp_path: Path, canary: Canary) -> None:
    folder = tmp_path / "baits"
    baits = lay_baits(folder, canary)
    given = [path for path in baits if "-absolute-" in path.name or "-http-" in path.name]
    own = shutil.copy(sample("pulse"), folder / "own.mp3")
    (folder / "still1.ppm").unlink()  # which is looked into for its own sake, as it lies there
    runs = {
        "classify files": ["classify", "--jsonl", *given],
        "classify folder": ["classify", "-r", "--jsonl", folder],
        "timeline": ["classify", "--timeline", "--jsonl", *given[::3]],
        "scan": ["scan", folder, "--db", tmp_path / "library.db"],
        "similar": ["similar", own, "--library", folder, "--db", tmp_path / "similar.db"],
    }
    for name, arguments in runs.items():
        out, said = genrescope(*arguments, expected=(0, 1))
        assert "-absolute-wav.mp3" in out + said, name  # it came as far as the baits
        assert canary.touched() == [], name


@pytest.mark.slow
def test_training_opens_no_file_that_a_clip_names(tmp_path: Path, canary: Canary) -> None:
    lay_baits(tmp_path / "baits", canary)
    sound, sampling_rate = soundfile.read(sample("pulse"), dtype="float32")
    for number in range(12):
        clip = tmp_path / "genres" / ("one", "two")[number % 2] / f"{number}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(clip, sound[number * 5000 :][: 3 * sampling_rate], sampling_rate)
    for bait in (tmp_path / "baits").glob("*-absolute-wav.mp3"):
        shutil.copy(bait, tmp_path / "genres" / "one")
    folders = ("--data", tmp_path / "genres", "--out", tmp_path / "model")
    _, said = genrescope("train", *folders, "--cache-dir", tmp_path / "store", expected=(0, 1))
    assert "-absolute-wav.mp3" in said  # it came as far as the baits
    assert canary.touched() == []


@pytest.mark.slow
def test_the_server_opens_nothing_that_an_upload_names(tmp_path: Path, canary: Canary) -> None:
    baits = lay_baits(tmp_path / "baits", canary)
    sent = [
        path for path in baits if path.match("*-absolute-wav.mp3") or path.match("*-http-wav.*")
    ]
    sent += [path for path in baits if path.match("*-relative-wav.*") and path.suffix != ".mp3"]
    with (
        running(tmp_path / "server") as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        for path in sent:
            with path.open("rb") as file:
                answer = client.post("/api/classify", files={"file": (path.name, file)})
            assert answer.status_code in {200, 400, 415, 422}, (path.name, answer.text)
            assert canary.touched() == [], path.name
            # As the page does it.
            with path.open("rb") as file:
                begun = client.post("/api/answers", files={"file": (path.name, file)}).json()
            state = {"state": "waiting", "version": 0}
            while state["state"] in {"waiting", "running"}:
                known = {"wait": 20, "since": state["version"]}
                state = client.get(f"/api/answers/{begun['id']}", params=known).json()
            assert canary.touched() == [], path.name
