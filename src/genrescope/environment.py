"""Settings of the whole process: environment variables, warnings, limits of the standard library.

No other module writes ``os.environ`` or changes a global setting of a library. Variables are set
before the library or process that reads them starts, and processes that are started later inherit
them. What is changed for a while is restored by its context manager.
"""

from __future__ import annotations

import csv
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HUB_TIMEOUT_S = 10
"""Seconds until an unreachable hub is an error."""

_MAX_CELL = 2**31 - 1

_DEFAULTS: dict[str, dict[str, str]] = {
    # ONNX Runtime stores an identifier of the machine and may report its use to its vendor.
    "onnxruntime": {"ORT_DISABLE_TELEMETRY": "1"},
    "huggingface_hub": {"HF_HUB_DOWNLOAD_TIMEOUT": str(HUB_TIMEOUT_S)},
    # Usage reports to the vendor; log lines of its C++ processes.
    "ray": {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"},
    # Usage reports; half a minute instead of four until an unreachable server is an error.
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4"},
    # GNU's C library keeps freed memory for the next training step instead of returning it to the
    # system, which clears it: a tenth of an epoch of the study's CNN, a sixth on larger pictures.
    # It reads them when a process starts; other C libraries ignore them.
    "malloc": {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:"
        "glibc.malloc.trim_threshold=4294967296",
        "MALLOC_MMAP_THRESHOLD_": str(2**33),
        "MALLOC_TRIM_THRESHOLD_": str(2**33),
    },
}
# By the library that reads them.


def configure(library: str) -> None:
    """Set the environment variables of a library, except those that the user has set.

    Parameters
    ----------
    library
        ``onnxruntime``, ``huggingface_hub``, ``ray``, ``mlflow``, or ``malloc`` for processes that
        are started later to fit networks.
    """
    for name, value in _DEFAULTS[library].items():
        os.environ.setdefault(name, value)


def set_variables(**variables: str) -> None:
    """Set environment variables whatever the user has set, where privacy depends on them."""
    os.environ.update(variables)


def set_torch_threads(count: int) -> None:
    """Limit the threads of torch in this process, which fits and does nothing else."""
    import torch  # noqa: PLC0415  an extra

    torch.set_num_threads(count)


@contextmanager
def quiet(
    *messages: str | tuple[str, type[Warning]],
    logger: str | None = None,
    level: int = logging.WARNING,
) -> Iterator[None]:
    """Hide warnings and log records for a while.

    Parameters
    ----------
    messages
        Regular expressions, matched at the beginning of a warning's text; with a category, only of
        that category.
    logger
        Name of a logger whose records below ``level`` are hidden.
    level
        As of ``logging``.
    """
    log = None if logger is None else logging.getLogger(logger)
    before = log.level if log else 0
    with warnings.catch_warnings():
        for message in messages:
            text, category = (message, Warning) if isinstance(message, str) else message
            warnings.filterwarnings("ignore", text, category)
        if log:
            log.setLevel(level)
        try:
            yield
        finally:
            if log:
                log.setLevel(before)


@contextmanager
def long_csv_cells() -> Iterator[None]:
    """Let the csv module read cells of any length; its limit holds for the whole process."""
    before = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)
