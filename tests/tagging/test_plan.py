"""Plans of libraries whose answers are made up, and whose files are real, in several formats."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mutagen
import numpy as np
import pytest

import commands
import formats
from genrescope.classifier import Prediction
from genrescope.errors import InputError
from genrescope.library.catalogue import Catalogue, CatalogueEntry
from genrescope.tagging import records
from genrescope.tagging.plan import Step, describe_plan, make_plan, open_plan, write_plan
from genrescope.tagging.policy import AlbumVote, Existing, Policy
from genrescope.tagging.tag_genres import genre_by_tags, tag_rates
from genrescope.taxonomy import load_taxonomy

GENRES = ("classical", "jazz", "metal", "rock")
KINDS = {"mp3": "mp3-bare", "flac": "flac-bare", "ogg": "ogg-bare", "m4a": "m4a-bare"}
TAXONOMY = load_taxonomy()
UNSURE_BELOW = 0.5


class MadeUp:
    """A library: files of several formats with tags, and what the model says about them."""

    def __init__(self, folder: Path, sources: dict[str, Path]) -> None:
        self.folder = folder / "music"
        self.folder.mkdir()
        self.db = folder / "library.db"
        self._sources = sources
        self._answers: dict[Path, tuple[str, Prediction]] = {}

    def add(
        self,
        path: str,
        shares: list[float],
        *,
        other: bool = False,
        model: str = "m",
        said: dict[str, float] | None = None,
        **tags: str,
    ) -> None:
        """Add a file with tags; ``shares`` are those of ``GENRES``."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._sources[file.suffix[1:]], file)
        if tags:
            opened = mutagen.File(file, easy=True)
            if opened.tags is None:
                opened.add_tags()
            opened.update(tags)
            opened.save()
        ranked = dict(sorted(zip(GENRES, shares, strict=True), key=lambda one: -one[1]))
        best, confidence = next(iter(ranked.items()))
        unsure = not other and confidence < UNSURE_BELOW
        found = Prediction(best, confidence, unsure, ranked, said or {}, other=other)
        self._answers[file] = model, found

    def scan(self) -> None:
        """Write all answers into the catalogue."""
        with Catalogue(self.db, write=True) as catalogue:
            walk = catalogue.begin_walk()
            for folder in sorted({file.parent for file in self._answers}):
                entries = [
                    CatalogueEntry(file.name, stat.st_size, stat.st_mtime_ns)
                    for file in sorted(self._answers)
                    if file.parent == folder
                    for stat in [file.stat()]
                ]
                catalogue.see(str(folder), entries, walk)
            waiting = {one.path: one for one in catalogue.waiting(str(self.folder), 0)}
            for file, (name, answer) in self._answers.items():
                config = SimpleNamespace(unsure_below=UNSURE_BELOW)
                classifier = SimpleNamespace(
                    key=name * 12, title=name, genres=GENRES, config=config
                )
                model = catalogue.model(classifier)  # type: ignore[arg-type]
                embedding = np.zeros(2, dtype=np.float16)
                row = waiting[file].row
                catalogue.save(row, file.stat(), bytes(16), model, (answer, embedding))

    def rescan(self) -> None:
        """Take over the times of files whose tags have changed."""
        with Catalogue(self.db, write=True) as catalogue:
            for folder in {file.parent for file in self._answers}:
                entries = [
                    CatalogueEntry(file.name, stat.st_size, stat.st_mtime_ns)
                    for file in sorted(folder.iterdir())
                    for stat in [file.stat()]
                ]
                catalogue.see(str(folder), entries, catalogue.begin_walk())
            for waiting in list(catalogue.waiting(str(self.folder), 1)):
                catalogue.keep(waiting.row, waiting.path.stat(), bytes(16))

    def plan(
        self, policy: Policy | None = None, vote: AlbumVote = AlbumVote.AGREE, **options: bool
    ) -> dict[str, Step]:
        """Scan and plan; steps by path."""
        self.scan()
        with Catalogue(self.db) as catalogue:
            made = make_plan(
                catalogue, self.folder, TAXONOMY, policy or Policy(), album=vote, **options
            )
            return {step.path: step for step in made}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = formats.make_library(tmp_path_factory.mktemp("sources"), seconds=0.5)
    return {suffix: made[name] for suffix, name in KINDS.items()}


@pytest.fixture
def library(tmp_path: Path, sources: dict[str, Path]) -> MadeUp:
    return MadeUp(tmp_path, sources)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def command(*words: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "COLUMNS": "200"}
        return commands.run(*words, env=env, cwd=tmp_path)

    return command


ROCK, METAL, JAZZ = [0.02, 0.03, 0.15, 0.8], [0.02, 0.03, 0.8, 0.15], [0.1, 0.8, 0.05, 0.05]
DOUBTFUL = [0.05, 0.05, 0.45, 0.45]


def test_an_album_in_several_formats_and_folders_gets_one_genre(library: MadeUp) -> None:
    x = {"artist": "A", "album": "X", "albumartist": "A"}
    for number, kind in enumerate(KINDS):
        library.add(f"A/X/CD{number % 2}/{number}.{kind}", ROCK, **x)
    library.add("A/X/CD1/9.flac", [0.05, 0.05, 0.5, 0.4], **x)
    steps = library.plan()
    assert {step.action for step in steps.values()} == {"write"}
    assert {step.new for step in steps.values()} == {("Rock",)}
    odd = steps["A/X/CD1/9.flac"]
    assert (odd.audio, odd.album, odd.artist) == ("Metal 0.50", odd.album, "")
    assert odd.album.startswith("Rock 0.")
    assert odd.album.endswith(" (4 tracks)")
    alone = library.plan(vote=AlbumVote.OFF)["A/X/CD1/9.flac"]
    assert (alone.action, alone.reason, alone.album) == ("leave", "low confidence: Metal 0.50", "")


def test_a_compilation_does_not_vote(library: MadeUp) -> None:
    for number in range(5):
        artist, shares = f"Artist {number}", DOUBTFUL if number == 4 else ROCK
        library.add(f"Hits/{number}.mp3", shares, artist=artist, album="Hits")
    for number in range(3):
        library.add(f"4/{number}.mp3", METAL, artist="Artist 4", album="Own")
    steps = library.plan()
    assert {step.album for path, step in steps.items() if path.startswith("Hits")} == {
        "compilation"
    }
    doubtful = steps["Hits/4.mp3"]
    assert doubtful.artist.startswith("Metal 0.")
    assert doubtful.artist.endswith(" (3 tracks)")
    assert doubtful.new in ((), ("Metal",))
    voted = library.plan(vote=AlbumVote.VOTE)["Hits/4.mp3"]
    assert voted.new == doubtful.new


def test_an_album_of_two_genres_is_left_to_its_tracks(library: MadeUp) -> None:
    for number, shares in enumerate((ROCK, ROCK, JAZZ, JAZZ)):
        library.add(f"X/{number}.ogg", shares, artist="A", album="X")
    steps = library.plan()
    assert [step.new for step in steps.values()] == [("Rock",)] * 2 + [("Jazz",)] * 2
    assert all(step.album.startswith("mixed: ") for step in steps.values())


def test_contradicted_tags_come_first_and_are_left(library: MadeUp) -> None:
    library.add("1.mp3", ROCK)
    library.add("2.mp3", ROCK, genre="Jazz")
    library.add("3.flac", METAL, genre="Rock")  # neither contains the other
    library.add("4.ogg", ROCK, genre="Indie Rock")
    library.add("5.m4a", ROCK, genre="Techno")  # for which the model has no name
    library.add("6.mp3", ROCK, genre="Other")
    library.add("7.flac", DOUBTFUL, genre="Jazz")
    steps = library.plan()
    assert list(steps)[:2] == ["2.mp3", "3.flac"]
    assert {path for path, step in steps.items() if step.action == "review"} == {"2.mp3", "3.flac"}
    assert {path for path, step in steps.items() if step.action == "write"} == {"1.mp3", "6.mp3"}
    assert (steps["2.mp3"].new, steps["2.mp3"].file) == (("Rock",), "Jazz")
    assert steps["2.mp3"].reason == "review: sounds like Rock 0.80, but it is tagged Jazz"
    assert (steps["6.mp3"].old, steps["6.mp3"].file) == (("Other",), "")


def test_the_tags_of_an_album_speak_for_its_files_without(library: MadeUp) -> None:
    for number in range(3):
        library.add(f"X/{number}.flac", DOUBTFUL, artist="A", album="X", genre="Metal")
        library.add(f"Y/{number}.mp3", ROCK, artist="B", album="Y", genre="Folk")
    library.add("X/9.mp3", DOUBTFUL, artist="A", album="X")
    library.add("Y/9.mp3", ROCK, artist="B", album="Y")
    steps = library.plan()
    assert (steps["X/9.mp3"].action, steps["X/9.mp3"].new) == ("write", ("Metal",))
    assert steps["X/9.mp3"].album.endswith(", tagged Metal")
    assert steps["Y/9.mp3"].action == "review"
    assert steps["Y/9.mp3"].reason.endswith("but its album is tagged Folk")


def test_what_a_plan_has_written_is_no_evidence_for_the_next(
    library: MadeUp, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for number in range(3):
        library.add(f"X/{number}.flac", METAL, artist="A", album="X")
    library.add("X/9.mp3", [0.05, 0.05, 0.2, 0.7], artist="A", album="X")
    library.scan()
    words = ("tag", "plan", library.folder, "--db", library.db, "--min-confidence", 0.78, "--out")
    assert run(*words, "1.csv").returncode == 0
    before = {step.path: step for step in open_plan(library.folder.parent / "1.csv").steps()}
    text = (library.folder.parent / "1.csv").read_text()
    (library.folder.parent / "1.csv").write_text(text.replace("write,X/9", "leave,X/9"))
    assert "3 written" in run("tag", "apply", "1.csv").stdout
    library.rescan()
    assert run(*words, "2.csv").returncode == 0
    after = {step.path: step for step in open_plan(library.folder.parent / "2.csv").steps()}
    assert after["X/0.flac"].old == ("Metal",)
    assert after["X/9.mp3"].album == before["X/9.mp3"].album  # without "tagged"
    assert after["X/9.mp3"].confidence == before["X/9.mp3"].confidence
    assert run(*words, "3.csv", "--journal", "none.db").returncode == 0
    other = {step.path: step for step in open_plan(library.folder.parent / "3.csv").steps()}
    assert other["X/9.mp3"].album.endswith("tagged Metal")


def test_a_file_whose_names_cannot_be_read_is_planned(
    library: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise InputError(path, "its tags are broken", "Replace it")

    monkeypatch.setattr(records, "read_names", fail)
    for number in range(3):
        library.add(f"X/{number}.mp3", ROCK)
    steps = library.plan()
    assert {step.new for step in steps.values()} == {("Rock",)}
    assert {step.album.partition(" (")[2] for step in steps.values()} == {"2 tracks)"}


def test_finer_genres_survive_replacement(library: MadeUp) -> None:
    library.add("1.mp3", METAL, genre="Thrash Metal")
    library.add("2.flac", [0.9, 0.1, 0, 0], genre="Baroque")
    library.add("3.m4a", METAL, genre="Jazz")
    steps = library.plan(Policy(Existing.REPLACE))
    assert [step.action for step in steps.values()] == ["leave", "leave", "write"]
    assert steps["2.flac"].reason == "unchanged"


def test_what_is_unsure_or_other_is_never_written(library: MadeUp) -> None:
    library.add("1.mp3", DOUBTFUL)
    library.add("2.mp3", ROCK, other=True)
    library.add("X/1.mp3", ROCK, other=True, artist="A", album="X")
    library.add("X/2.mp3", ROCK, artist="A", album="X")
    for vote in AlbumVote:
        steps = library.plan(Policy(Existing.REPLACE, min_confidence=0.0), vote)
        written = {path for path, step in steps.items() if step.action == "write"}
        assert written == {"X/2.mp3"}
        assert steps["2.mp3"].audio == "other"


def test_tags_name_a_genre_where_the_model_has_none(library: MadeUp) -> None:
    high = {tag: min(1.0, 1.6 * rate.usual) for tag, rate in tag_rates().items()}
    low = {tag: 1.4 * rate.usual for tag, rate in tag_rates().items()}
    library.add("1.mp3", ROCK, other=True, said={**low, "soul": high["soul"]})
    library.add("2.mp3", ROCK, other=True, said=low)
    library.add("3.mp3", ROCK, said={**low, "soul": high["soul"]})
    library.add("4.mp3", ROCK, other=True, said={**low, "soul": high["soul"]}, genre="Jazz")
    assert library.plan()["1.mp3"].action == "leave"
    steps = library.plan(from_tags=True)
    assert [steps[f"{n}.mp3"].action for n in (1, 2, 3, 4)] == ["write", "leave", "write", "leave"]
    assert (steps["1.mp3"].new, steps["1.mp3"].confidence) == (("Soul",), None)
    assert steps["1.mp3"].reason.startswith("by its tags alone: soul 0.")
    assert steps["3.mp3"].new == ("Rock",)


def test_the_table_of_tags_names_genres_and_likelihoods() -> None:
    assert {"electronic", "folk", "soul", "punk", "ambient", "House"} <= set(tag_rates())
    for tag, rate in tag_rates().items():
        assert 0 < rate.usual < 1
        assert TAXONOMY.canonical(rate.genre) == rate.genre
        assert TAXONOMY.key(rate.genre) in TAXONOMY.spellings
        found = genre_by_tags({tag: 1.0})
        assert found is not None
        assert found.genre == rate.genre
    assert genre_by_tags({"guitar": 1.0}) is None
    assert genre_by_tags({}) is None


def test_a_plan_says_how_many_are_expected_to_be_wrong(tmp_path: Path) -> None:
    def step(confidence: float | None, action: str = "write") -> Step:
        return Step(action, "a.mp3", (), ("Rock",), confidence, "x", "v1")  # type: ignore[arg-type]

    assert describe_plan([]) == "0 files to be written"
    some = [step(0.75)] * 40 + [step(0.1, "leave"), step(0.1, "review")]
    expected = "40 files to be written; about 10 of them are expected to be wrong"
    assert describe_plan(some) == expected
    assert "about 1 of them is expected" in describe_plan([step(0.75)] * 4)
    assert "fewer than one of them is expected" in describe_plan([step(0.9)])
    assert "1 of them by tags alone, without a confidence" in describe_plan([step(0.9), step(None)])
    counts = write_plan(tmp_path / "p.csv", tmp_path, some, models=["a", "c\n"])
    assert counts == {"write": 40, "review": 1, "x": 1}
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[2] == f"# {expected}"
    assert lines[4] == "# genres by: a; c\\u000a"
    assert [one.action for one in open_plan(tmp_path / "p.csv").steps()].count("review") == 1


def test_the_command_reviews_writes_and_undoes(
    library: MadeUp, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    library.add("1.mp3", ROCK)
    library.add("2.flac", ROCK, genre="Jazz")
    library.add("3.ogg", ROCK, genre="Schrott", model="n")
    library.scan()
    (library.folder.parent / "none.txt").write_text("# mine\nSchrott\n", encoding="utf-8")
    files = {path: path.read_bytes() for path in library.folder.iterdir()}
    done = run(
        *("tag", "plan", library.folder, "--db", library.db, "--out", "p.csv"),
        *("--placeholders", "none.txt"),
    )
    assert done.returncode == 0, done.stderr
    assert "p.csv: 2 files to be written; fewer than one of them is" in done.stdout
    assert "1 to be reviewed: what they sound like contradicts their tags" in done.stdout
    assert "The files were analysed by 2 models: m (mmmmmmmmmmmm), n (nnnnnnnnnnnn)" in done.stderr
    plan = library.folder.parent / "p.csv"
    text = plan.read_text()
    assert "# genres by: m (mmmmmmmmmmmm); n (nnnnnnnnnnnn)" in text
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert [row["action"] for row in rows] == ["review", "write", "write"]
    assert rows[0]["audio"] == "Rock 0.80"
    plan.write_text(text.replace("review,2.flac", "write,2.flac"))
    assert "3 written" in run("tag", "apply", plan).stdout
    assert mutagen.File(library.folder / "2.flac")["genre"] == ["Rock"]
    assert "3 undone" in run("tag", "undo").stdout
    assert files == {path: path.read_bytes() for path in library.folder.iterdir()}


@pytest.mark.parametrize(("columns", "shown"), [(80, False), (120, True)])
def test_the_table_fits_the_terminal(
    library: MadeUp, columns: int, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from genrescope.cli import tag

    for number in range(3):
        path = f"An artist/An album of a long title/0{number} A song of a usual length.mp3"
        library.add(path, ROCK, artist="A", album="X")
    library.add("2.mp3", ROCK, genre="Jazz")
    steps = list(library.plan().values())
    console = Console(width=columns, force_terminal=True, record=True, color_system=None)
    monkeypatch.setattr(tag, "OUT", console)
    with console.capture() as captured:
        tag._show_steps(steps)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= columns
    assert ("audio" in captured.get()) == shown
    assert sum("to be " in line for line in lines) == 2
