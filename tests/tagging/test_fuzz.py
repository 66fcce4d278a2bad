"""Whatever the files are, each gives an answer: a prediction, or one line of error."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import genrescope
from genrescope import audio
from genrescope.classifier import Classifier
from genrescope.classifier.batch import FileResult, classify_files
from genrescope.workers import WorkerPool

SECONDS = 2.0
FORMATS = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aiff")


def write(path: Path) -> bytes:
    """Write two seconds of the package's own music in the format that the name states."""
    music, sampling_rate = audio.load(
        genrescope.sample("shuffle"), 48000 if path.suffix == ".opus" else None
    )
    music = music[: round(SECONDS * sampling_rate)]
    if path.suffix == ".m4a":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=sampling_rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(music[None], format="fltp", layout="mono")
            frame.sample_rate = sampling_rate
            container.mux([*stream.encode(frame), *stream.encode(None)])
    elif path.suffix == ".opus":
        soundfile.write(path, music, sampling_rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, music, sampling_rate)
    return path.read_bytes()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    return {form: write(folder / f"music.{form}") for form in FORMATS}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.fixture(scope="module")
def pool(classifier: Classifier) -> Iterator[WorkerPool]:
    with WorkerPool(2, genrescope.load, classifier.folder) as opened:
        yield opened


def check(answer: FileResult) -> bool:
    """Whether there is a prediction; if not, there is one line that names the file."""
    if answer.prediction is not None:
        assert answer.error is None
        shares = answer.prediction.probabilities.values()
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        return True
    assert answer.error is not None
    shown = str(answer.error)
    assert str(answer.path) in shown
    assert "\n" not in shown
    return False


Damage = Callable[[bytes, float, int], bytes]
DAMAGES: dict[str, Damage] = {
    "flip": lambda data, at, value: _put(data, at, bytes([data[_index(data, at)] ^ value % 256])),
    "truncate": lambda data, at, _: data[: _index(data, at)],
    "insert": lambda data, at, value: (
        data[: (i := _index(data, at))] + np.random.default_rng(value).bytes(value % 64) + data[i:]
    ),
    "erase": lambda data, at, value: _put(data, at, bytes(value % 512)),
    # Lengths and counts stand in the first bytes: make one of them huge.
    "huge": lambda data, at, value: _put(
        data, at * min(1, 64 / len(data)), (b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff")[value % 2]
    ),
}


def _index(data: bytes, at: float) -> int:
    return round(at * (len(data) - 1))


def _put(data: bytes, at: float, new: bytes) -> bytes:
    index = _index(data, at)
    return data[:index] + new + data[index + len(new) :]


damaged = st.tuples(
    st.sampled_from(FORMATS),
    st.lists(
        st.tuples(st.sampled_from(sorted(DAMAGES)), st.floats(0, 1), st.integers(1, 2**16)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", *FORMATS]),  # another name than its own
)


@given(files=st.lists(damaged, min_size=1, max_size=8))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_answered(
    files: list[tuple[str, list[tuple[str, float, int]], str]],
    seeds: dict[str, bytes],
    pool: WorkerPool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, (form, changes, name) in enumerate(files):
            content = seeds[form]
            for way, at, value in changes:
                content = DAMAGES[way](content or b"\0", at, value)
            paths.append(Path(folder) / f"{i}.{name or form}")
            paths[-1].write_bytes(content)
        answers = list(classify_files(pool, paths))
        assert [answer.path for answer in answers] == paths
        for answer in answers:
            check(answer)


@pytest.mark.parametrize("form", FORMATS)
def test_undamaged_files_are_predicted(
    form: str, seeds: dict[str, bytes], pool: WorkerPool, tmp_path: Path
) -> None:
    path = tmp_path / f"music.{form}"
    path.write_bytes(seeds[form])
    (answer,) = classify_files(pool, [path])
    assert check(answer)


def test_odd_files_are_answered(seeds: dict[str, bytes], pool: WorkerPool, tmp_path: Path) -> None:
    right: dict[str, bool | None] = {}

    def add(name: str, content: bytes, predicted: bool | None) -> None:
        (tmp_path / name).write_bytes(content)
        right[name] = predicted

    add("text.mp3", b"no music at all, only words", False)
    add("empty.wav", b"", False)
    add("page.flac", b"<html>404</html>" * 100, False)
    add("null.m4a", bytes(10_000), False)
    add("picture.ogg", b"\x89PNG\r\n\x1a\n" + bytes(1000), False)
    for form in FORMATS:
        add(f"swapped-{form}.wav", seeds[form], None)
    huge = bytearray(seeds["wav"])
    struct.pack_into("<I", huge, 4, 0x7FFFFFFF)
    struct.pack_into("<I", huge, 40, 0x7FFFFFF0)
    add("placeholder.wav", bytes(huge), True)  # of a program that did not know the size yet
    struct.pack_into("<I", huge, 40, 0x01234567)
    add("huge.wav", bytes(huge), False)
    for name, samples, predicted in (
        ("silence.wav", np.zeros(22050), False),
        ("nan.wav", np.full(22050, np.nan), False),
        ("inf.wav", np.full(22050, np.inf), False),
        ("loud.wav", np.full(22050, 1e30), None),
        ("one.wav", np.ones(1), False),
        ("short.wav", np.ones(300), None),
    ):
        soundfile.write(tmp_path / name, samples, 22050, subtype="FLOAT")
        right[name] = predicted
    (tmp_path / "folder.wav").mkdir()
    right["folder.wav"] = right["gone.wav"] = False
    if os.name == "posix":
        (tmp_path / "loop.wav").symlink_to("loop.wav")
        right["loop.wav"] = False
        if os.geteuid() != 0:  # who may read everything
            add("forbidden.wav", seeds["wav"], False)
            (tmp_path / "forbidden.wav").chmod(0)
    paths = [tmp_path / name for name in right]
    answers = list(classify_files(pool, paths, timeline=True))
    assert [answer.path for answer in answers] == paths
    for answer, predicted in zip(answers, right.values(), strict=True):
        found = check(answer)
        assert predicted is None or found == predicted, answer


WORK = """
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = sys.argv[1:3]
from test_fuzz import DAMAGES, FORMATS, check
from genrescope.classifier import Classifier
from genrescope.classifier.batch import classify_files
folder, count = Path(sys.argv[3]), int(sys.argv[4])
lots = np.random.default_rng(7)
seeds = {form: (folder / f"seed.{form}").read_bytes() for form in FORMATS}

def paths():
    for i in range(count):
        form = FORMATS[i % len(FORMATS)]
        content = seeds[form]
        for _ in range(lots.integers(1, 5)):
            way = sorted(DAMAGES)[lots.integers(len(DAMAGES))]
            content = DAMAGES[way](content or b"\\0", lots.random(), int(lots.integers(1, 2**16)))
        path = folder / f"{i}.{form}"
        path.write_bytes(content)
        yield path

found = [check(answer) for answer in classify_files(Classifier.default(), paths(), workers=2)]
print(len(found), sum(found))
"""


@pytest.mark.slow
def test_a_process_outlives_hundreds_of_damaged_files(
    seeds: dict[str, bytes], tmp_path: Path
) -> None:
    # In a process of its own, whose crash is a failure here and not the end of all tests.
    for form, content in seeds.items():
        (tmp_path / f"seed.{form}").write_bytes(content)
    here = Path(__file__).parent
    command = [sys.executable, "-c", WORK, str(here), str(here.parent), str(tmp_path), "500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answered, predicted = map(int, done.stdout.split())
    assert answered == 500
    assert 25 < predicted < 475  # damage that matters, and not always
