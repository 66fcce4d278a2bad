import csv
import io
import logging
import os
import warnings

import pytest

from genrescope import environment


def test_variables_are_defaults_that_the_user_may_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "info")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    environment.configure("ray")
    assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "info"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_variables_that_privacy_depends_on_replace_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GENRESCOPE_TEST", "before")
    environment.set_variables(GENRESCOPE_TEST="after")
    assert os.environ["GENRESCOPE_TEST"] == "after"


def test_quiet_hides_what_it_names_and_restores_the_rest() -> None:
    log = logging.getLogger("genrescope.test")
    log.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with environment.quiet("Glyph ", logger="genrescope.test", level=logging.CRITICAL):
            warnings.warn("Glyph 7 missing", stacklevel=1)
            warnings.warn("Another", stacklevel=1)
            assert log.level == logging.CRITICAL
        warnings.warn("Glyph 8 missing", stacklevel=1)
    assert [str(one.message) for one in seen] == ["Another", "Glyph 8 missing"]
    assert log.level == logging.DEBUG


def test_csv_cells_may_be_long_for_a_while() -> None:
    before = csv.field_size_limit()
    line = "x" * (before + 1)
    with environment.long_csv_cells():
        assert next(csv.reader(io.StringIO(line))) == [line]
    assert csv.field_size_limit() == before
    with pytest.raises(csv.Error):
        next(csv.reader(io.StringIO(line)))
