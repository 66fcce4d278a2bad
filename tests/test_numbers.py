"""Odd samples give sensible numbers or plain words; and one sound the same numbers anywhere."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

import commands
import genrescope
from genrescope.audio import MAX_AMPLITUDE
from genrescope.classifier import Classifier
from genrescope.classifier.batch import classify_files
from genrescope.datasets import demo
from genrescope.errors import InputError
from genrescope.inference import open_session
from genrescope.representations import REPRESENTATIONS, make_representation
from genrescope.study.config import StudyConfig
from genrescope.study.run import Options, run_study
from genrescope.training.recipe import load_recipe
from silent import Silent

SAMPLING_RATE = 22050
LENGTH = 2 * SAMPLING_RATE
SINE = (0.3 * np.sin(np.arange(LENGTH) / 20)).astype(np.float32)
BITS = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), LENGTH)
WEIGHTS = Path(genrescope.__file__).parent / "weights"


def at_the_middle(value: float, around: NDArray[np.float32] = SINE) -> NDArray[np.float32]:
    samples = around.copy()
    samples[LENGTH // 2] = value
    return samples


SOUNDS = {
    "silence": np.zeros(LENGTH, np.float32),
    "denormals": (SINE * np.float32(1e-38)) * np.float32(1e-3),
    "one denormal": at_the_middle(1e-45, np.zeros(LENGTH, np.float32)),
    "clipped": np.sign(SINE),
    "an offset alone": np.ones(LENGTH, np.float32),
    "an offset": SINE + np.float32(0.7),
    "one bit of noise": BITS,
    "an impulse": at_the_middle(1, np.zeros(LENGTH, np.float32)),
    "half the rate": np.tile(np.array([1, -1], np.float32), LENGTH // 2),
    "half silent": np.where(np.arange(LENGTH) < SAMPLING_RATE, 0, SINE).astype(np.float32),
    "integers unscaled": SINE * np.float32(2**15),
    "as loud as may be": BITS * np.float32(MAX_AMPLITUDE),
    "one loud sample": at_the_middle(MAX_AMPLITUDE),
}
NO_SOUNDS = {
    "nan": (at_the_middle(np.nan), "not finite numbers"),
    "inf": (at_the_middle(np.inf), "not finite numbers"),
    "minus inf": (at_the_middle(-np.inf), "not finite numbers"),
    "both inf": (np.where(BITS > 0, np.inf, -np.inf).astype(np.float32), "not finite numbers"),
    "too loud": (SINE * np.float32(1e30), r"samples of 3e\+29, but full scale is 1"),
    "one too loud": (at_the_middle(-2 * MAX_AMPLITUDE), r"samples of 4e\+09, but full scale is 1"),
    "the most": (
        np.full(LENGTH, np.finfo(np.float32).max),
        r"samples of 3e\+38, but full scale is 1",
    ),
}
NO_WAVEFORMS = {
    "integers": ((SINE * 32767).astype(np.int16), "floats in .* int16"),
    "long integers": ((SINE * 2**30).astype(np.int32), "floats in .* int32"),
    "bytes": ((SINE * 100 + 128).astype(np.uint8), "floats in .* uint8"),
    "truths": (SINE > 0, "floats in .* bool"),
    "complex numbers": (SINE.astype(np.complex64), "floats in .* complex64"),
    "objects": (SINE.astype(object), "floats in .* object"),
    "three dimensions": (SINE[:, None, None], r"shape \(samples,\), .*, not \(44100, 1, 1\)"),
    "a number": (np.array(0.5), r"not \(\)"),
    "more than floats hold": (np.full(LENGTH, 1e300), r"samples of 1e\+300, but full scale is 1"),
    "nothing": (SINE[:0], "too short"),
    "one sample": (SINE[:1], "too short"),
    "too short": (SINE[:300], "too short"),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Let no warning pass, of overflow or anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.default()


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("name", sorted(REPRESENTATIONS))
def test_odd_sounds_have_finite_arrays(name: str, sound: str) -> None:
    representation = make_representation(name)
    with quiet():
        array = representation.compute(SOUNDS[sound], SAMPLING_RATE)
        again = representation.unpack(representation.pack(array))
    assert array.shape == again.shape == representation.shape
    assert array.dtype == again.dtype == np.float32
    assert np.isfinite(array).all()
    assert np.isfinite(again).all()


@pytest.mark.parametrize("name", sorted(REPRESENTATIONS))
def test_below_analysis_is_silence(name: str) -> None:
    representation = make_representation(name)
    silence = representation.compute(SOUNDS["silence"], SAMPLING_RATE)
    for sound in ("denormals", "one denormal"):
        analysed = representation.compute(SOUNDS[sound], SAMPLING_RATE)
        if name not in {"descriptors", "segments"}:  # frequencies have no level
            np.testing.assert_allclose(analysed, silence, atol=1e-6)


SILENT = ("silence", "denormals", "one denormal", "half a step of 16 bits")


@pytest.mark.parametrize("sound", sorted(SOUNDS.keys() - set(SILENT)))
def test_odd_sounds_have_a_genre(classifier: Classifier, sound: str) -> None:
    with quiet():
        prediction = classifier.predict(SOUNDS[sound], SAMPLING_RATE)
        timeline = classifier.timeline(np.tile(SOUNDS[sound], 5), SAMPLING_RATE)
    shares = np.array(list(prediction.probabilities.values()))
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert all(0 <= share <= 1 for share in prediction.tags.values())
    assert len(timeline.probabilities) == 3
    sums = timeline.probabilities.sum(axis=1)
    if sound == "half the rate":  # resampled, nothing is left of it but its ends
        sums = sums[sums > 0]
        assert len(sums)
    np.testing.assert_allclose(sums, 1, atol=1e-6)


@pytest.mark.parametrize("sound", SILENT)
def test_silence_has_no_genre(classifier: Classifier, sound: str, tmp_path: Path) -> None:
    samples = SOUNDS.get(sound, BITS * np.float32(2**-16))
    with pytest.raises(ValueError, match="the waveform is silent"):
        classifier.predict(samples, SAMPLING_RATE)
    path = tmp_path / "quiet.wav"
    soundfile.write(path, samples, SAMPLING_RATE, subtype="FLOAT")
    for representation in (classifier.representation, make_representation("descriptors")):
        with pytest.raises(InputError, match=r"quiet\.wav: it is silent\. Leave the file out"):
            representation.of_file(path)


def test_a_quiet_sound_has_a_genre(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "quiet.wav"
    soundfile.write(path, SINE * np.float32(1e-3), SAMPLING_RATE, subtype="PCM_16")
    assert classifier.predict(path).best in classifier.genres


@pytest.mark.parametrize("ask", ["predict", "timeline"])
@pytest.mark.parametrize("name", [*NO_SOUNDS, *NO_WAVEFORMS])
def test_what_is_no_waveform_is_reported(classifier: Classifier, name: str, ask: str) -> None:
    samples, words = (NO_SOUNDS | NO_WAVEFORMS)[name]
    with quiet(), pytest.raises(ValueError, match=words):
        getattr(classifier, ask)(samples, SAMPLING_RATE)


def test_a_waveform_may_lie_in_memory_as_it_likes(classifier: Classifier) -> None:
    frozen = SINE.copy()
    frozen.flags.writeable = False
    meant = classifier.predict(SINE, SAMPLING_RATE)
    for other in (
        SINE.astype(np.float64),
        SINE.astype(">f4"),
        np.repeat(SINE, 2)[::2],
        np.stack([SINE, SINE], axis=1)[:, 0],
        SINE[::-1].copy()[::-1],
        frozen,
    ):
        assert classifier.predict(other, SAMPLING_RATE) == meant


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NO_SOUNDS)
def test_a_file_of_no_sound_is_named(name: str, channels: int, tmp_path: Path) -> None:
    samples, words = NO_SOUNDS[name]
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.stack([samples] * channels, axis=1), SAMPLING_RATE, subtype="FLOAT")
    if name == "the most" and channels == 2:  # their sum is beyond
        words = "not finite numbers"
    for representation in sorted(REPRESENTATIONS):
        with quiet(), pytest.raises(InputError, match=words) as caught:
            make_representation(representation).of_file(path)
        assert caught.value.path == path


def test_a_file_of_doubles_beyond_floats_is_named(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.full(LENGTH, 1e300), SAMPLING_RATE, subtype="DOUBLE")
    for ask in (classifier.predict, classifier.timeline):
        with quiet(), pytest.raises(InputError, match="not finite numbers"):
            ask(path)


def test_a_sample_that_is_no_sound_is_found_in_a_long_file(
    classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    long = np.tile(BITS * np.float32(0.1), 70)  # 140 s, of which excerpts are analysed
    long[len(long) // 2 :: 1000] = 1e20
    soundfile.write(path, long, SAMPLING_RATE, subtype="FLOAT")
    for ask in (classifier.predict, classifier.timeline):
        with quiet(), pytest.raises(InputError, match=r"samples of 1e\+20, but full scale is 1"):
            ask(path)


@pytest.mark.parametrize("sound", ["integers unscaled", "as loud as may be"])
def test_files_of_odd_levels_are_analysed(
    classifier: Classifier, sound: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, SOUNDS[sound], 16000, subtype="FLOAT")
    with quiet():
        assert classifier.predict(path) == classifier.predict(SOUNDS[sound], 16000)


# The same numbers, however they are asked for


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, music: Callable[..., NDArray[np.float32]]):
    folder = tmp_path_factory.mktemp("album")
    for seed in range(6):
        soundfile.write(folder / f"{seed}.wav", music(4.0 + seed, seed=seed), SAMPLING_RATE)
    return folder


def test_one_thread_and_many_give_the_same_answers(classifier: Classifier, album: Path) -> None:
    paths = sorted(album.iterdir())
    one, *others = (
        list(classify_files(classifier, paths, workers=workers, timeline=True))
        for workers in (1, 2, 5)
    )
    for many in others:
        for alone, beside in zip(one, many, strict=True):
            assert beside.prediction == alone.prediction
            assert beside.timeline is not None
            np.testing.assert_array_equal(
                beside.timeline.probabilities, alone.timeline.probabilities
            )


FRESH = """
import hashlib, sys
import numpy as np
from genrescope.classifier import Classifier
classifier = Classifier(Classifier.default().folder, threads=int(sys.argv[1]))
path = __import__("pathlib").Path(sys.argv[2])
whole, *windows = (
    classifier.representation.analyse_file(path), *classifier.representation.analyse_windows(path)
)
logits = classifier.logits(np.concatenate([part.arrays for part in (whole, *windows)]))
np.save(sys.argv[3], logits)
print(hashlib.sha256(logits.tobytes()).hexdigest())
"""


def fresh(path: Path, out: Path, threads: int = 1, **environment: str) -> str:
    """Hash the logits of a file's windows, made by a process of its own."""
    line = [sys.executable, "-c", FRESH, str(threads), str(path), str(out)]
    env = {**os.environ, **environment}
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip()


def test_every_process_gives_the_same_bits(tmp_path: Path) -> None:
    path = genrescope.sample("pulse")
    first, second = (fresh(path, tmp_path / f"{run}.npy") for run in "ab")
    assert first == second
    logits = np.load(tmp_path / "a.npy")
    assert len(logits) > 1
    assert hashlib.sha256(logits.tobytes()).hexdigest() == first
    # What the libraries may share out otherwise, they add up in another order.
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    fresh(path, tmp_path / "c.npy", 2, **threads)
    np.testing.assert_allclose(np.load(tmp_path / "c.npy"), logits, atol=1e-5)


@pytest.mark.parametrize(
    "network", sorted(str(path.relative_to(WEIGHTS)) for path in WEIGHTS.rglob("*.onnx"))
)
def test_another_interpreter_of_onnx_agrees(network: str) -> None:
    """The standard's own, of plain numpy, stands for every other execution provider."""
    content = (WEIGHTS / network).read_bytes()
    session = open_session(content)
    (given,) = session.get_inputs()
    shape = [2, *given.shape[1:]]
    arrays = np.random.default_rng(0).uniform(0, 3, shape).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    shown = session.run(names, {given.name: arrays})
    reference = ReferenceEvaluator(onnx.load_from_string(content))
    for name, found, meant in zip(
        names, shown, reference.run(names, {given.name: arrays}), strict=True
    ):
        scale = max(1.0, float(np.abs(meant).max()))
        np.testing.assert_allclose(found / scale, meant / scale, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_a_catalogue_is_the_same_by_one_worker_and_by_many(album: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2, 3):
        db = tmp_path / f"{workers}.db"
        for words in (
            ("scan", album, "--db", db, "--workers", workers),
            ("export", "--format", "jsonl", "--db", db),
        ):
            done = commands.run(*words)
            assert done.returncode == 0, done.stderr
        rows = [json.loads(row) for row in done.stdout.splitlines()]
        assert len(rows) == 6
        found.append(sorted(rows, key=lambda row: row["path"]))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_a_study_is_the_same_by_one_job_and_by_two(tmp_path: Path) -> None:
    """From analysing the clips to the last prediction, nothing of it being kept from before."""
    dataset = demo.make(tmp_path / "demo", tracks_per_style=10, seconds=1.0)
    network = {"name": "cnn", "channels": [4], "hidden": 8}
    picture = {"name": "mel-image", "size": 32}
    settings = {"extends": "original-cnn", "epochs": 2, "representation": picture, "model": network}
    neighbours = {"extends": "knn", "name": "neighbours"}
    recipes = [load_recipe(given) for given in ({**settings, "name": "small"}, neighbours)]
    plan = StudyConfig(recipes=recipes, protocols=["filtered", "random"], seeds=2)
    found = []
    for jobs in (1, 2):
        out = tmp_path / f"by {jobs}"
        run_study(plan, dataset, out, Options(jobs=jobs, store=out / "store"), Silent())
        with (out / "results.csv").open() as file:
            measured = ("seconds", "train_seconds", "predict_seconds", "peak_memory")
            rows = [row | dict.fromkeys(measured) for row in csv.DictReader(file)]
        assert all(set(measured) <= set(row) for row in rows)
        files = {
            str(path.relative_to(out)): path.read_bytes()
            for form in ("runs/**/predictions.csv", "models/*/model.onnx", "store/**/*.npy")
            for path in out.glob(form)
        }
        assert len(rows) == 8
        assert {Path(name).suffix for name in files} == {".csv", ".onnx", ".npy"}
        found.append((rows, files))
    (alone, alone_files), (beside, beside_files) = found
    assert beside == alone
    assert set(beside_files) == set(alone_files)
    assert [name for name in alone_files if alone_files[name] != beside_files[name]] == []
