"""One thread, no network, own cache and data folders for the tests; and sounds that they share."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before anything that reads them is imported; processes that tests start inherit them.
_CACHE = Path(tempfile.mkdtemp(prefix="genrescope-tests-"))
os.environ.update(
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    XDG_CACHE_HOME=str(_CACHE),
    XDG_DATA_HOME=str(_CACHE / "data"),
    # Tests use librosa directly, too, which compiles for a quarter of a minute: those that do are
    # of the group "librosa". Two test processes must not fill its cache at once.
    NUMBA_CACHE_DIR=str(_CACHE / "numba"),
    HF_HOME=str(_CACHE / "huggingface"),
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
)

# They start hundreds of processes, each of which would compile all anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Where the tests run in the background, SIGINT is ignored, and so it would be in what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

import tiny_backbones  # noqa: E402

Samples = NDArray[np.float32]


COSTLY = frozenset(
    """
    answers api attacks audio_fuzz batch beets canary catalogue check cli command confidence
    descriptors encoder explain faults figures fit frozen fuzz headers_fuzz hub learn library
    mfcc micro_batch nasty_names numbers odd_files onnx_export onnx_picture outputs page
    platforms probes published report report_page scan similar site spectral splits stopping
    store streams study systems tagging tags targets train transfer transformers_model
    transforms walk web workers
    """.split()  # noqa: SIM905  a list has a line for each
)
"""Files, without "test_", that take four seconds of a processor, slow tests not counted."""


def _is_costly(path: Path) -> bool:
    return path.stem.removeprefix("test_") in COSTLY


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only files of tests that take no time")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--fast") and _is_costly(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First, so that no worker is left with a long test when the others have ended.
    items.sort(key=lambda item: not _is_costly(item.path))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def gtzan() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "gtzan"
    if not folder.is_dir():
        pytest.skip("needs the real GTZAN data in shared/gtzan beside the project")
    return folder


@pytest.fixture(scope="session")
def music() -> Callable[..., Samples]:
    """Make what sounds a little like music: chords, a beat and some noise."""

    def make(seconds: float = 3.0, sampling_rate: int = 22050, seed: int = 0) -> Samples:
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * sampling_rate)) / sampling_rate
        notes = 110 * 2 ** (rng.integers(0, 36, 6) / 12)
        chords = sum(np.sin(2 * np.pi * note * time) for note in notes) / len(notes)
        beat = (time * 2 % 1 < 0.05) * rng.standard_normal(len(time))
        noise = 0.01 * rng.standard_normal(len(time))
        return (0.5 * chords * (1 + np.sin(time)) / 2 + 0.3 * beat + noise).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def tone() -> Callable[..., Path]:
    """Write a sine tone to a file in the format that its name tells."""

    def write(
        path: Path,
        seconds: float = 2.0,
        sampling_rate: int = 22050,
        frequency: float = 440.0,
        level: float = 0.5,
        **settings: str,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(seconds * sampling_rate)) / sampling_rate
        samples = (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
        soundfile.write(path, samples, sampling_rate, **settings)
        return path

    return write


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Give the settings of an embedding through one of ``tiny_backbones.CHECKPOINTS``."""
    pytest.importorskip("onnx", reason="networks are made with genrescope[train]")
    folder = tmp_path_factory.mktemp("checkpoints")
    return lambda name: tiny_backbones.settings(name, folder)
