"""The client of a request, and log lines about requests."""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path
from traceback import extract_tb

from starlette.types import Scope

from genrescope.errors import one_line

_LOG = logging.getLogger("genrescope.web")
_LONGEST = 120  # characters of a client's words in a line
_SITE = 64  # bits of an IPv6 address that a client does not choose


def client_of(scope: Scope) -> str:
    """Give the client of a request, as far as clients can be distinguished.

    All addresses of an IPv6 network of 64 bits are one client, since a single machine may take any
    of them; an IPv4 address written as IPv6 is the former; all without a valid address are one.
    """
    try:
        found = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), _SITE), strict=False))


def log_line(scope: Scope, cause: str) -> None:
    """Write one line to the log about a request, whatever it holds."""
    words = (scope["method"], scope["path"], client_of(scope) or "-", cause)
    _LOG.warning("%s %s from %s: %s", *map(_printable, words))


def log_fault(error: Exception, scope: Scope | None = None) -> None:
    """Write one line to the log about a fault of ours, in a request or in a job."""
    places = extract_tb(error.__traceback__)
    place = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else "-"
    cause = f"{type(error).__name__} at {place}: {error}"
    if scope is None:
        _LOG.warning("a job failed: %s", _printable(cause))
    else:
        log_line(scope, cause)
    _LOG.debug("The fault:", exc_info=error)


def _printable(text: str) -> str:
    # A client must neither begin a line of its own nor reach the terminal with escapes.
    safe = one_line(text)
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]}…"
