"""Whatever files hold, each is taken or refused in one line; see ``targets``.

``FUZZ=20`` in the environment makes twenty times as many examples.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from targets import (
    TARGETS,
    WAYS,
    Change,
    check,
    damage,
    damaged_rows,
)

HERE = Path(__file__).parent
TIMES = int(os.environ.get("FUZZ", "1"))
DATABASES = ("journal", "catalogue")
IN_PROCESS = sorted(set(TARGETS) - {"network"})

pytest.importorskip("onnx")


def often(examples: int) -> settings:
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        suppress_health_check=unhurried,
        database=None,
    )


@cache
def seeds(name: str) -> list[bytes]:
    return TARGETS[name].seeds()


@pytest.mark.parametrize("name", TARGETS)
def test_valid_files_are_taken_and_can_be_damaged(name: str) -> None:
    target = TARGETS[name]
    for seed in seeds(name):
        damage(target, seed, [(way, 0.5, 7) for way in WAYS])
    assert sum(check(target, seed) for seed in seeds(name))


changes = st.lists(
    st.tuples(st.sampled_from(WAYS), st.floats(0, 1), st.integers(0, 2**16)), min_size=1, max_size=4
)


@pytest.mark.parametrize("name", IN_PROCESS)
def test_damaged_files_are_taken_or_refused(name: str) -> None:
    @given(st.integers(0, 2**16), changes)
    @often(30 if name in DATABASES else 60)
    def attempt(which: int, how: list[Change]) -> None:
        whole = seeds(name)[which % len(seeds(name))]
        check(TARGETS[name], damage(TARGETS[name], whole, how))

    attempt()


@pytest.mark.parametrize("name", DATABASES)
def test_databases_with_rows_that_make_no_sense_are_taken_or_refused(name: str) -> None:
    number = st.integers(0, 2**16)

    @given(st.lists(st.tuples(number, number, number), min_size=1, max_size=3))
    @often(60)
    def attempt(how: list[tuple[int, int, int]]) -> None:
        check(TARGETS[name], damaged_rows(seeds(name)[0], how))

    attempt()


def test_damaged_networks_are_taken_or_refused_and_nothing_crashes() -> None:
    # In a process of its own, whose crash is a failure here and not the end of all tests.
    count = 400 * TIMES
    command = [sys.executable, str(HERE / "targets.py"), "network", str(count), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-12:]
    damaged, taken = map(int, done.stdout.split())
    assert damaged == count
    assert 0.1 < taken / count < 0.95  # damage that matters, and not always
