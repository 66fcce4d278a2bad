"""Servers of the page, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browser import chromium_running
from web_server import running


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Start a server with options; a context manager."""
    return lambda *options, **env: running(tmp_path_factory.mktemp("server"), *options, **env)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start a browser."""
    with chromium_running() as browser:
        yield browser
