"""An owner's library from start to end: scan, learn, plan, apply, undo; hundreds of tagged files.

Nine formats, albums by one artist and compilations of several, genres that are right, wrong,
double, rare, placeholders or missing. Nothing but the genre of what a plan says is ever changed,
and undoing gives every byte and time back.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.mp4 import MP4
from mutagen.wave import WAVE

import commands
import formats
import genrescope
import sounds
from genrescope.audio import load, resample
from genrescope.classifier import Classifier
from genrescope.datasets.demo import SAMPLING_RATE, render
from genrescope.tagging.formats import other_tags, read_genres
from genrescope.taxonomy import load_taxonomy

pytestmark = pytest.mark.slow
SECONDS = 5.0
PLACEHOLDERS = ("Other", "Unknown", "Misc", "genre")
OWN = {"disco": "Funk", "pop": "Zouk", "hiphop": "Hip-Hop"}
"""What the owner calls some genres; the others have the name of their folder, capitalised."""
CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    ".mp3": ("libmp3lame", {"container": {"id3v2_version": "0"}}),
    ".m4a": ("aac", {"form": "ipod"}),
    ".opus": ("libopus", {"rate": 48000}),
    ".wma": ("wmav2", {}),
    ".wv": ("wavpack", {}),
}
ENDINGS = (".flac", ".mp3", ".ogg", ".m4a", ".wav", ".opus", ".aiff", ".wma", ".wv")
NAMES = {
    ".m4a": {"artist": "\xa9ART", "album": "\xa9alb", "albumartist": "aART", "genre": "\xa9gen"},
    ".wma": {"artist": "Author", "album": "WM/AlbumTitle", "genre": "WM/Genre"}
    | {"albumartist": "WM/AlbumArtist"},
    ".wv": {"artist": "Artist", "album": "Album", "albumartist": "Album Artist", "genre": "Genre"},
}
FRAMES = {"artist": id3.TPE1, "album": id3.TALB, "albumartist": id3.TPE2, "genre": id3.TCON}
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Clip:
    """Audio of a known genre by one artist: int16 (1, samples) at a rate in Hz."""

    genre: str
    artist: str
    samples: np.ndarray
    rate: int


@dataclass
class Owned:
    """The library: its folder and what its files are, by their paths below it."""

    folder: Path
    truth: dict[str, str] = field(default_factory=dict)
    tagged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    noise: set[str] = field(default_factory=set)

    def empty(self) -> set[str]:
        return {name for name, genres in self.tagged.items() if not genres}


# --- The library ---------------------------------------------------------------------------------


def gtzan_clips(gtzan: Path) -> Iterator[Clip]:
    """Three excerpts of each real clip; neighbouring ones count as one artist's."""
    for folder in sorted((gtzan / "genres_original").iterdir()):
        for number, path in enumerate(sorted(folder.glob(f"{folder.name}.*"))[:11]):
            samples, rate = load(path, 22050)
            for start in (2, 11, 20):
                part = samples[start * rate : round((start + SECONDS) * rate)]
                if len(part) == SECONDS * rate:
                    artist = f"{folder.name} artist {number % 5}"
                    yield Clip(folder.name, artist, as_int16(part), rate)


def packaged_clips(_: None = None) -> Iterator[Clip]:
    """The packaged samples, cut, and the demo's synthetic styles."""
    for name in genrescope.SAMPLES:
        samples, _ = load(genrescope.sample(name), 22050)
        room = len(samples) - round(SECONDS * 22050)
        for number, start in enumerate(np.linspace(0, room - 1, 40).astype(int)):
            part = samples[start : start + round(SECONDS * 22050)]
            yield Clip(name, f"{name} artist {number % 5}", as_int16(part), 22050)
    for style in ("march", "waltz", "pulse", "lament", "shuffle"):
        for number in range(40):
            made = render(style, number % 5, number, seconds=SECONDS)
            artist = f"demo {style} artist {number % 5}"
            yield Clip(f"demo {style}", artist, as_int16(made), SAMPLING_RATE)


def as_int16(samples: np.ndarray) -> np.ndarray:
    loud = samples / max(1.0, float(np.abs(samples).max()))
    return (loud * 32000).astype(np.int16)[None]


def encode(path: Path, clip: Clip) -> bool:
    """Write a clip in the format of a name's ending; False if FFmpeg lacks the encoder."""
    if path.suffix not in CODECS:
        soundfile.write(path, clip.samples[0], clip.rate)
        return True
    codec, options = CODECS[path.suffix]
    settings = dict(options)
    rate = settings.pop("rate", 44100)
    wave = resample(clip.samples[0].astype(np.float32) / 32768, clip.rate, rate)
    try:
        formats.encode(path, codec, 0, rate, samples=as_int16(wave), **settings)
    except ValueError:  # an encoder that this build lacks
        path.unlink(missing_ok=True)
        return False
    return True


def write_tags(path: Path, fields: dict[str, list[str]], version: int) -> None:
    """Tag a file as another program does; MP3 by this version of ID3v2."""
    if path.suffix in {".mp3", ".wav", ".aiff"}:
        frames = [FRAMES[name](encoding=1, text=texts) for name, texts in fields.items()]
        if path.suffix == ".mp3":
            tags = id3.ID3()
            for frame in frames:
                tags.add(frame)
            tags.save(path, v2_version=version, v23_sep="/")
            return
        file: Any = (WAVE if path.suffix == ".wav" else AIFF)(path)
        file.add_tags()
        for frame in frames:
            file.tags.add(frame)
        file.save()
        return
    file = MP4(path) if path.suffix == ".m4a" else mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    for name, texts in fields.items():
        file.tags[NAMES.get(path.suffix, {}).get(name, name)] = texts
    file.save()


def name_of(genre: str) -> str:
    return OWN.get(genre, genre.title())


def genres_for(clip: Clip, number: int, others: list[str]) -> tuple[tuple[str, ...], bool]:
    """What the owner's tag says of the nth track of a genre, and whether that is wrong."""
    own = name_of(clip.genre)
    match number % 10:
        case 0:
            return (PLACEHOLDERS[number // 10 % len(PLACEHOLDERS)],), False
        case 1 if number == 11 and sum(own.encode()) % 2:
            return (others[sum(own.encode()) % len(others)],), True
        case 2:
            return (own, others[0]), False
        case 3 | 6 | 9:
            return (), False
        case _:
            return (own,), False


def make_library(folder: Path, clips: Iterator[Clip]) -> Owned:
    """Write all of it: an artist's folder with two albums, compilations, and what is no music."""
    owned = Owned(folder)
    counts: Counter[str] = Counter()
    ending, written = 0, list(clips)
    names = sorted({name_of(clip.genre) for clip in written})
    for clip in written:
        number = counts[clip.genre]
        counts[clip.genre] += 1
        own = names.index(name_of(clip.genre))
        others = names[own + 1 :] + names[:own]
        genres, is_wrong = genres_for(clip, number, others)
        is_compilation = number % 8 == 7
        artist = f"{clip.artist} – Ünïcode"
        album = "Now 7" if is_compilation else f"Album {number // 5 % 2 + 1}"
        place = folder / ("Compilations" if is_compilation else artist) / album
        place.mkdir(parents=True, exist_ok=True)
        stem = f"{number:03d} {clip.genre}"
        while True:
            path = place / f"{stem}{ENDINGS[ending % len(ENDINGS)]}"
            ending += 1
            if encode(path, clip):
                break
        fields = {"artist": [artist], "album": [album]}
        fields |= {"albumartist": ["Various Artists"]} if is_compilation else {}
        fields |= {"genre": list(genres)} if genres else {}
        write_tags(path, fields, 3 + number % 2)
        key = path.relative_to(folder).as_posix()
        owned.truth[key], owned.tagged[key] = name_of(clip.genre), read_genres(path)
        if is_wrong:
            owned.wrong.add(key)
    place = folder / "Field recordings"
    place.mkdir()
    for number, (_, wave) in enumerate(sounds.sounds(sounds.NOT_MUSIC, 1)):
        path = place / f"{number}.flac"
        soundfile.write(path, wave, sounds.RATE)
        key = path.relative_to(folder).as_posix()
        owned.tagged[key] = ()
        owned.noise.add(key)
    (place / "letter.mp3").write_text("not music")
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        os.utime(path, ns=(10**18, 1_400_000_000 * 10**9 + number * 1_234_567_891))
    return owned


@pytest.fixture(
    scope="module",
    params=[
        # What is done to a library is done in the order of the tests.
        pytest.param(name, marks=pytest.mark.xdist_group(f"owner-{name}"))
        for name in ("gtzan", "packaged")
    ],
)
def owned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Owned:
    folder = tmp_path_factory.mktemp("owner").resolve() / "Music"
    if request.param == "packaged":
        return make_library(folder, packaged_clips())
    return make_library(folder, gtzan_clips(request.getfixturevalue("gtzan")))


@pytest.fixture(scope="module")
def run(owned: Owned) -> Run:
    """Run commands beside the library, with a data folder of their own."""
    place = owned.folder.parent

    def command(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(place / "data"), "COLUMNS": "200"}
        done = commands.run(*words, env=env, cwd=place)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return command


# --- What is looked at ---------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 and time of every file."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def answers(run: Run, folder: Path) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, run("export", folder, "--format", "jsonl").stdout.splitlines())
    return {Path(row["path"]).relative_to(folder).as_posix(): row for row in rows}


def planned(plan: Path) -> dict[str, dict[str, str]]:
    lines = [line for line in plan.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {row["path"]: row for row in csv.DictReader(lines)}


def playlists(folder: Path) -> dict[str, list[Path]]:
    return {
        path.stem: [
            (folder / line).resolve()
            for line in path.read_text("utf-8").splitlines()
            if not line.startswith("#")
        ]
        for path in folder.iterdir()
    }


def plan_apply_and_undo(
    run: Run, owned: Owned, plan: Path, model: Path, album: str, *scan_options: object
) -> dict[str, str]:
    """Write what is sure into files without a genre, look at all of it, and undo it.

    Parameters
    ----------
    run, owned
        Of the fixtures.
    plan
        File to write.
    model
        Folder of the model that has scanned it; what it is unsure of must not be written.
    album
        ``off``: what is written is what the audio of each file says; ``agree``: albums and artists
        count, too.
    scan_options
        Of that scan.

    Returns
    -------
    written
        Genre by path.
    """
    folder, taxonomy = owned.folder, load_taxonomy()
    before, found = contents(folder), answers(run, folder)
    others = {name: other_tags(folder / name) for name in owned.tagged}
    config = json.loads((model / "config.json").read_text("utf-8"))
    minimum = max(0.7, config["unsure_below"])
    options = ("--max-genres", 1, "--min-confidence", minimum, "--album", album)
    run("tag", "plan", folder, "--out", plan, *options)
    assert contents(folder) == before
    rows = planned(plan)
    wanted = {name: row["new"] for name, row in rows.items() if row["action"] == "write"}
    has_genre = {name for name, own in owned.tagged.items() if own and own[0] not in PLACEHOLDERS}
    assert not has_genre & set(wanted)
    assert all(float(rows[name]["confidence"]) >= minimum - 1e-3 for name in wanted)
    if album == "off":
        sure = {
            name: taxonomy.canonical(answer["best"]) or answer["best"]
            for name, answer in found.items()
            if answer["error"] is None
            and not (answer["other"] or answer["unsure"])
            and answer["confidence"] >= minimum
            and name not in has_genre
        }
        assert wanted == sure
    assert len(wanted) >= 20
    done = run("tag", "apply", plan)
    assert f"{len(wanted)} written" in done.stdout
    after = contents(folder)
    assert {name for name in before if after[name] != before[name]} == set(wanted)
    assert after.keys() == before.keys()  # nothing is left beside them
    for name, genre in wanted.items():
        assert read_genres(folder / name) == (genre,), name
        assert other_tags(folder / name) == others[name], name
    # Another scan sees that only tags have changed, and another plan has nothing more to do.
    scanned = scan(run, folder, *scan_options)
    assert (scanned["analysed"], scanned["known"]) == (0, len(wanted))
    second = plan.with_name(f"again-{plan.name}")
    run("tag", "plan", folder, "--out", second, *options)
    assert not [row["path"] for row in planned(second).values() if row["action"] == "write"]
    assert f"{len(wanted)} undone" in run("tag", "undo", plan).stdout
    assert contents(folder) == before
    return wanted


def scan(run: Run, folder: Path, *options: object, code: int = 0) -> dict[str, Any]:
    return json.loads(run("scan", folder, "--json", *options, code=code).stdout)


# --- From start to end ---------------------------------------------------------------------------


def test_the_library_is_what_it_should_be(owned: Owned) -> None:
    names = owned.tagged.keys()
    assert len(names) >= 300
    assert len({Path(name).suffix for name in names}) >= 8
    assert len({Path(name).parts[0] for name in names}) >= 15
    assert sum(name.startswith("Compilations/") for name in names) >= 30
    states = Counter(
        "empty" if not own else "placeholder" if own[0] in PLACEHOLDERS else len(own)
        for own in owned.tagged.values()
    )
    assert states["empty"] >= 80
    assert states["placeholder"] >= 20
    assert states[2] >= 20
    assert len(owned.wrong) >= 3


def test_the_packaged_model_tags_what_it_is_sure_of(owned: Owned, run: Run) -> None:
    before = contents(owned.folder)
    scanned = scan(run, owned.folder, "--quality", "fast", code=1)
    assert scanned["failed"] == 1  # the letter
    assert scanned["analysed"] + scanned["known"] == len(owned.tagged)
    assert contents(owned.folder) == before
    (library,) = json.loads(run("library", "list", "--json").stdout)["libraries"]
    (model,) = library["models"]
    assert (model["name"], model["files"]) == ("default (fast)", len(owned.tagged))
    found = answers(run, owned.folder)
    assert sum(found[name]["other"] for name in owned.noise) >= len(owned.noise) - 2
    plan = owned.folder.parent / "packaged.csv"
    packaged = Classifier.default().folder
    written = plan_apply_and_undo(run, owned, plan, packaged, "off", "--quality", "fast")
    assert not owned.noise & {name for name in written if found[name]["other"]}


def test_their_own_genres_are_learned_and_written(owned: Owned, run: Run) -> None:
    for package in ("torch", "sklearn", "onnx"):
        pytest.importorskip(package, reason="learning needs genrescope[train]")
    place, folder = owned.folder.parent, owned.folder
    before = contents(folder)
    scan(run, folder, "--quality", "fast", "--retry", code=1)
    learned = json.loads(
        run(
            *("learn", folder, "--quality", "fast", "--out", place / "my-model", "--json"),
            *("--min-tracks", 8, "--min-artists", 3),
        ).stdout
    )
    assert contents(folder) == before
    names = set(json.loads((place / "my-model" / "config.json").read_text("utf-8"))["genres"])
    assert set(owned.truth.values()) <= names
    assert not names & set(PLACEHOLDERS)
    doubted = [one["path"] for one in learned["doubts"]]
    assert len(owned.wrong & set(doubted[: 2 * len(owned.wrong)])) >= len(owned.wrong) / 2
    own = place / "my-model"
    scan(run, folder, "--model", own, code=1)
    written = plan_apply_and_undo(run, owned, place / "own.csv", own, "agree", "--model", own)
    taxonomy = load_taxonomy()
    right = [
        taxonomy.canonical(owned.truth[name]) == taxonomy.canonical(genre)
        for name, genre in written.items()
        if name in owned.truth
    ]
    assert np.mean(right) >= 0.8
    assert contents(folder) == before


def test_playlists_hold_what_is_sure(owned: Owned, run: Run) -> None:
    folder = owned.folder
    found = answers(run, folder)
    out = folder.parent / "lists"
    done = run("export", folder, "--format", "m3u", "--out", out, "--relative")
    lists = playlists(out)
    for genre, paths in lists.items():
        rows = [found[path.relative_to(folder).as_posix()] for path in paths]
        assert all(path.is_file() for path in paths)
        assert {row["best"] for row in rows} == {genre.partition(" (")[0]}
        assert not any(row["unsure"] or row["other"] for row in rows)
    unsure = sum(bool(row["unsure"]) for row in found.values())
    if unsure:
        assert f"{unsure:,} left out: unsure" in done.stderr
    everything = folder.parent / "all lists"
    options = ("--include-unsure", "--include-other")
    run("export", folder, "--format", "m3u", "--out", everything, "--relative", *options)
    listed = [path for paths in playlists(everything).values() for path in paths]
    assert len(listed) == len(set(listed)) == len(owned.tagged)


def test_it_can_move_and_be_forgotten(owned: Owned, run: Run) -> None:
    folder, moved = owned.folder, owned.folder.parent / "elsewhere" / "Music"
    model = folder.parent / "my-model"
    scan(run, folder, *(("--model", model) if model.is_dir() else ("--quality", "fast")))
    before, found = contents(folder), answers(run, folder)
    moved.parent.mkdir()
    folder.rename(moved)
    try:
        files = len(owned.tagged) + 1  # and the letter
        assert f"{files} files as they were" in run("library", "move", folder, moved).stdout
        after = answers(run, moved)
        same = ("best", "confidence", "other", "fingerprint", "probabilities", "error")
        assert {name: [row[key] for key in same] for name, row in after.items()} == {
            name: [row[key] for key in same] for name, row in found.items()
        }
        assert f"{files} files forgotten" in run("library", "forget", moved, "--yes").stdout
        assert "it has not been scanned yet" in " ".join(run("stats", moved, code=1).stderr.split())
        assert contents(moved) == before
    finally:
        moved.rename(folder)
