"""Every container and codec that the program ffmpeg writes, in six states, and what comes of it.

A clip is encoded by the program ``ffmpeg``; genrescope reads it with libraries that it installs.
So what writes and what reads are two builds of FFmpeg.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from genrescope import audio
from genrescope.errors import InputError
from genrescope.workers import WorkerPool

SECONDS = 6.0
PLAIN, BEFORE, BEHIND, ZEROS, CUT, JOINED = STATES = (
    "plain",
    "junk before",
    "junk behind",
    "zeros inside",
    "cut at 60 %",
    "joined",
)
SAMPLING_RATE = 16000
SPAN_S, MOST = 0.4, 4  # shorter than the clip, so that spans are sought
AGREE_S = 0.5
FAILED = "failed: "
SLOW_S = 30.0  # for three times decoding 6 s
CANNOT_KNOW = frozenset(
    # Streams of packets or samples, and headers without any size.
    "adts ac3 dts eac3 gsm ircam latm mlp mp2 mp3 mpeg vob mpegts nut truehd rm voc".split()  # noqa: SIM905
)
UNREAD = {
    # FFmpeg 5.1 writes them without the header that AAC needs, and does not read them either.
    ".wav (wav) aac": "AAC without its header",
    ".wtv (wtv) aac": "AAC without its header",
}
UNTIMED = {".rm (rm) real_144"}  # FFmpeg 5.1 writes no time stamps that would show a gap
BEGIN, END = "<!-- swept -->", "<!-- /swept -->"

_RAW_LE = "pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw"
_RAW_BE = "pcm_s16be pcm_s24be pcm_s32be pcm_f32be pcm_f64be pcm_alaw pcm_mulaw"
_FILM = "aac ac3 eac3 mp2 libmp3lame flac libopus"
WRITTEN = {
    # Ending and muxer: encoders.
    "aac adts": "aac",
    "ac3 ac3": "ac3 ac3_fixed",
    "aif aiff": f"pcm_s8 {_RAW_BE} adpcm_ima_qt",
    "aifc aiff": "pcm_s16le",
    "asf asf": "wmav1 wmav2 libmp3lame aac ac3 pcm_s16le",
    "ast ast": "pcm_s16be_planar",
    "au au": f"pcm_s8 {_RAW_BE} g722",
    "avi avi": "pcm_u8 pcm_s16le pcm_s24le libmp3lame mp2 ac3 aac wmav2 adpcm_ima_wav adpcm_ms",
    "caf caf": f"pcm_s8 {_RAW_BE} {_RAW_LE} alac aac ac3 libmp3lame mp2 libopus libgsm",
    "dts dts": "dca",
    "eac3 eac3": "eac3",
    "flac flac": "flac",
    "flv flv": "libmp3lame aac pcm_s16le pcm_u8 adpcm_swf nellymoser libspeex pcm_alaw pcm_mulaw",
    "gsm gsm": "libgsm",
    "sf ircam": "pcm_s16le pcm_s32le pcm_f32le pcm_alaw pcm_mulaw",
    "latm latm": "aac",
    "m4a ipod": "aac alac ac3",
    "mka matroska": f"{_FILM} {_RAW_LE} pcm_u8 pcm_s16be alac libvorbis vorbis opus wavpack "
    "tta dca wmav2 truehd mlp adpcm_ms adpcm_ima_wav real_144",
    "mkv matroska": "aac libvorbis",
    "mlp mlp": "mlp",
    "mov mov": f"{_FILM} {_RAW_LE} {_RAW_BE} pcm_s8 pcm_u8 alac adpcm_ima_qt adpcm_ms libgsm",
    "mp2 mp2": "mp2 mp2fixed libtwolame",
    "mp3 mp3": "libmp3lame libshine",
    "mp4 mp4": f"{_FILM} alac libvorbis dca truehd",
    "mp4 ismv": "aac",
    "3gp 3gp": "aac",
    "3g2 3g2": "aac",
    "mpg mpeg": "mp2 libmp3lame ac3",
    "vob vob": "mp2 ac3 pcm_dvd dca",
    "m2ts mpegts": "aac ac3 eac3 mp2 libmp3lame libopus s302m dca truehd pcm_bluray",
    "nut nut": f"{_FILM} {_RAW_LE} {_RAW_BE} pcm_u8 libvorbis wavpack adpcm_ms",
    "ogg ogg": "libvorbis vorbis libopus opus flac libspeex",
    "oga oga": "flac libvorbis",
    "opus opus": "libopus",
    "spx spx": "libspeex",
    "rm rm": "ac3 real_144",
    "sox sox": "pcm_s32le pcm_s32be",
    "thd truehd": "truehd",
    "tta tta": "tta",
    "voc voc": "pcm_u8 pcm_s16le pcm_alaw pcm_mulaw",
    "w64 w64": f"{_RAW_LE} pcm_u8 adpcm_ms adpcm_ima_wav libmp3lame",
    "wav wav": f"{_RAW_LE} pcm_u8 adpcm_ms adpcm_ima_wav adpcm_yamaha adpcm_swf libmp3lame mp2 aac "
    "ac3 libgsm_ms g722 g723_1 g726 wmav2 dca",
    "rf64 wav": "pcm_s16le pcm_f32le",
    "webm webm": "libvorbis libopus",
    "wma asf": "wmav2",
    "wtv wtv": "mp2 ac3 libmp3lame aac",
    "wv wv": "wavpack",
}
_FORM = {  # rate and channels of encoders that do not take 44,100 Hz and two
    "libgsm": "8000 1",
    "libgsm_ms": "8000 1",
    "g723_1": "8000 1",
    "real_144": "8000 1",
    "nellymoser": "22050 1",
    "g722": "16000 1",
    "g726": "8000 1",
    "g726le": "8000 1",
    "s302m": "48000 2",
    "pcm_dvd": "48000 2",
    "pcm_bluray": "48000 2",
    "libopus": "48000 2",
    "opus": "48000 2",
    "libspeex": "16000 1",
    "dca": "48000 2",
    "mlp": "48000 2",
    "truehd": "48000 2",
}
_BY_MUXER = {("flv", "pcm_alaw"): "8000 1", ("flv", "pcm_mulaw"): "8000 1"}
_OPTIONS = {"rf64": "-rf64 always"}


@dataclass(frozen=True, order=True)
class Combination:
    """What a clip is written as."""

    ending: str
    muxer: str
    encoder: str

    def __str__(self) -> str:
        return f".{self.ending} ({self.muxer}) {self.encoder}"


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    Attributes
    ----------
    seconds
        That `decode` gave; 0 if it refused the file.
    others
        Seconds by `excerpts` and by `pieces`; None where they refused the file.
    level
        Root mean square of what was decoded.
    warnings, cause
        What was said of it.
    took_s
        Seconds that all three took.
    """

    seconds: float
    others: tuple[float | None, float | None]
    level: float
    warnings: tuple[str, ...] = ()
    cause: str = ""
    took_s: float = 0.0

    @property
    def kind(self) -> str:
        if self.cause:
            return "refused"
        return "warning" if self.warnings else "answered"


@dataclass
class Sweep:
    """All outcomes by combination and state; and why some combinations are not there."""

    outcomes: dict[Combination, dict[str, Outcome]] = field(default_factory=dict)
    unwritten: dict[Combination, str] = field(default_factory=dict)
    numbers: dict[Combination, int] = field(default_factory=dict)


def combinations() -> list[Combination]:
    return [
        Combination(*form.split(), encoder)
        for form, encoders in WRITTEN.items()
        for encoder in dict.fromkeys(encoders.split())
    ]


def clip(path: Path) -> Path:
    """Write what is somewhat like music, and nowhere like itself."""
    rng = np.random.default_rng(14)
    time_s = np.arange(round(SECONDS * 44100)) / 44100
    notes = 110 * 2 ** (rng.integers(0, 36, round(SECONDS * 4)) / 12)
    pitch = np.repeat(notes, len(time_s) // len(notes) + 1)[: len(time_s)]
    phase = 2 * np.pi * np.cumsum(pitch) / 44100
    tune = sum(np.sin(phase * n) / n for n in (1, 2, 3)) / 3
    beat = (time_s * 2 % 1 < 0.05) * rng.standard_normal(len(time_s))
    noise = 0.01 * rng.standard_normal((2, len(time_s)))
    sides = np.stack([tune + 0.4 * beat, 0.8 * tune + 0.5 * beat]) * 0.5 + noise
    soundfile.write(path, sides.T, 44100)
    return path


def encode(source: Path, combination: Combination, target: Path) -> str | None:
    """Write a clip with the program ``ffmpeg``; gives the reason if it cannot."""
    encoder, muxer = combination.encoder, combination.muxer
    form = _BY_MUXER.get((muxer, encoder)) or _FORM.get(encoder, "44100 2")
    sampling_rate, channels = form.split()
    command = [
        shutil.which("ffmpeg") or "ffmpeg",
        *["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-i"],
    ]
    command += [
        str(source),
        "-c:a",
        encoder,
        "-ar",
        sampling_rate,
        "-ac",
        channels,
        "-strict",
        "-2",
    ]
    command += _OPTIONS.get(combination.ending, "").split()
    command += ["-fflags", "+bitexact", "-flags", "+bitexact", "-f", muxer, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and target.stat().st_size > 1000:
        return None
    said = done.stderr.strip().splitlines()
    return said[0].partition("] ")[2] or said[0] if said else "it wrote nothing"


def in_state(content: bytes, state: str) -> bytes:
    """Change the bytes of a file."""
    junk = random.Random(14)
    middle = len(content) // 2
    return {
        PLAIN: lambda: content,
        BEFORE: lambda: junk.randbytes(1000) + content,
        BEHIND: lambda: content + junk.randbytes(4096),
        ZEROS: lambda: content[:middle] + bytes(4096) + content[middle + 4096 :],
        CUT: lambda: content[: len(content) * 6 // 10],
        JOINED: lambda: content * 2,
    }[state]()


def measure(_: None, path: Path) -> Outcome:
    """Decode a file in all three ways; in a process that may crash."""
    begun = time.monotonic()
    waveform, warnings, cause = np.empty(0, np.float32), (), ""
    try:
        decoded = audio.decode(path, SAMPLING_RATE)
        waveform, warnings = decoded.waveform, decoded.warnings
    except InputError as error:
        cause = error.cause
    others: list[float | None] = []
    for way in (_by_excerpts, _by_pieces):
        try:
            others.append(way(path))
        except InputError:
            others.append(None)
    level = float(np.sqrt(np.mean(np.square(waveform)))) if len(waveform) else 0.0
    return Outcome(
        len(waveform) / SAMPLING_RATE,
        (others[0], others[1]),
        level,
        tuple(warning.message for warning in warnings),
        cause,
        time.monotonic() - begun,
    )


def _by_excerpts(path: Path) -> float:
    return audio.excerpts(path, SAMPLING_RATE, span_s=SPAN_S, max_spans=MOST).seconds


def _by_pieces(path: Path) -> float:
    return sum(map(len, audio.pieces(path, SAMPLING_RATE, SAMPLING_RATE))) / SAMPLING_RATE


def prepare() -> None:
    """Nothing is needed."""


def sweep(folder: Path, wanted: list[Combination] | None = None, workers: int = 2) -> Sweep:
    """Write and measure all; the plain files are left in folders by ``Sweep.numbers``."""
    folder.mkdir(parents=True, exist_ok=True)
    source = clip(folder / "clip.wav")
    every = combinations() if wanted is None else wanted
    swept = Sweep(numbers={combination: number for number, combination in enumerate(every)})

    with WorkerPool(workers, prepare) as pool, ThreadPoolExecutor(workers) as threads:

        def work(combination: Combination) -> dict[str, Outcome] | str:
            place = folder / str(swept.numbers[combination])
            place.mkdir(exist_ok=True)
            plain = place / f"plain.{combination.ending}"
            if (reason := encode(source, combination, plain)) is not None:
                return reason
            content = plain.read_bytes()
            return {
                state: attempt(pool, place / f"{state.split()[0]}.{combination.ending}", changed)
                for state in STATES
                for changed in [in_state(content, state)]
            }

        for combination, found in zip(every, threads.map(work, every), strict=True):
            if isinstance(found, str):
                swept.unwritten[combination] = found
            else:
                swept.outcomes[combination] = found
    return swept


def attempt(pool: WorkerPool, path: Path, content: bytes) -> Outcome:
    """Write a file, measure it, and remove it unless it is the plain one."""
    path.write_bytes(content)
    try:
        return pool.do_file(measure, path)
    except Exception as error:  # noqa: BLE001  a crash, a hang, or what is none of genrescope's own
        return Outcome(0.0, (None, None), 0.0, (), FAILED + repr(error), 0.0)
    finally:
        if path.stem != PLAIN:
            path.unlink()


def version() -> str:
    """Return which ffmpeg writes."""
    program = shutil.which("ffmpeg") or "ffmpeg"
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split()[:3])


def table(swept: Sweep) -> str:
    """Make the table: a line for all codecs of a container of which the same comes."""
    lines: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for combination, found in swept.outcomes.items():
        cells = tuple(_cell(combination, state, found[state]) for state in STATES)
        form = f"{combination.ending} ({combination.muxer})"
        lines.setdefault((form, cells), []).append(combination.encoder)
    head = ["written as", "codecs", *STATES]
    rows = [[form, ", ".join(encoders), *cells] for (form, cells), encoders in lines.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _cell(combination: Combination, state: str, outcome: Outcome) -> str:
    if outcome.kind == "refused":
        return "refused"
    share = f"{5 * round(100 * outcome.seconds / SECONDS / 5)} %"
    if outcome.kind == "warning":
        return f"{share}, warning"
    unknown = state == CUT and combination.muxer in CANNOT_KNOW
    return f"{share} †" if unknown else share


def read_table(text: str) -> dict[tuple[str, str], list[str]]:
    """Read the table: cells by container and codec."""
    found = {}
    for line in [line for line in text.splitlines() if line.startswith("|")][2:]:
        form, encoders, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        found |= {(form, encoder): cells for encoder in encoders.split(", ")}
    return found


def same(cell: str, other: str) -> bool:
    """Return whether two cells say the same, to a step of the share."""
    kinds = [text.partition("%")[2] if "%" in text else text for text in (cell, other)]
    shares = [int(text.split()[0]) if "%" in text else 0 for text in (cell, other)]
    return kinds[0] == kinds[1] and abs(shares[0] - shares[1]) <= 5


def parts_of(page: Path) -> tuple[str, str, str]:
    """Give what is before the table of a page, the table, and what is behind it."""
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    inside, end, after = rest.partition(f"\n{END}")
    if not (mark and end):
        raise ValueError(f"{page}: there is no {BEGIN} … {END}")
    return before, inside, after
