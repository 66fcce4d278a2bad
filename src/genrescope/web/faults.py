"""Faults of requests in words: a title and a remedy for people, a detail for programs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from genrescope.errors import GenrescopeError, InputError
from genrescope.tagging.review import AppliedError, NotFoundError
from genrescope.web.analysis import TooLongError
from genrescope.web.service import TooSlowError

_WORDS = {
    # Status: what is wrong, what to do.
    400: ("The request is malformed", "Reload the page and try again"),
    401: ("A token is needed", "Open the page by the address that contains its token"),
    403: ("This is not allowed", "Open the page itself, and try again there"),
    404: ("This is not here", "Answers are deleted after a while; send the file again"),
    408: ("The upload took too long", "Send a smaller file, or use a faster connection"),
    413: ("The file is too large", "Send a part of it, or convert it to MP3"),
    421: ("The server has another name", "Open the page by the address that the server printed"),
    500: ("The server failed", "Try again, or try another file"),
    503: ("The server is busy", "Try again in a few seconds"),
    507: ("The server has no disk space left", "Try again later"),
}
_STATUS = {TooLongError: 413, TooSlowError: 504, NotFoundError: 404, AppliedError: 409}


@dataclass(frozen=True)
class Fault:
    """What went wrong.

    Attributes
    ----------
    status
        Of the response.
    title, remedy
        What is wrong and what to do, for the person who made the request.
    detail
        For programs and logs.
    """

    status: int
    title: str
    remedy: str
    detail: str

    @property
    def words(self) -> dict[str, str]:
        """Return ``title``, ``remedy`` and ``detail``."""
        return {"title": self.title, "remedy": self.remedy, "detail": self.detail}

    @property
    def response(self) -> dict[str, Any]:
        """Return it as the JSON of an ``ErrorResponse``."""
        return {"detail": self.detail, "error": self.words}


def fault(status: int, detail: str) -> Fault:
    """Put a status into words."""
    title, remedy = _WORDS.get(status, _WORDS[400] if status < 500 else _WORDS[500])
    return Fault(status, title, f"{remedy}.", detail)


def fault_of(error: Exception) -> Fault:
    """Put an error into words; of one that is not for users, only that there was one."""
    if isinstance(error, InputError):
        title = re.sub(r"^its ", "the file's ", re.sub(r"^it ", "the file ", error.cause))
        status = _STATUS.get(type(error), 422)
        return Fault(status, f"{title[:1].upper()}{title[1:]}", f"{error.remedy}.", str(error))
    if isinstance(error, GenrescopeError):
        return Fault(_STATUS.get(type(error), 422), str(error), "", str(error))
    if isinstance(error, HTTPException):
        return fault(error.status_code, str(error.detail))
    if isinstance(error, OSError):
        return fault(507, f"The file cannot be kept here ({error.strerror}); try again later.")
    return fault(500, "Internal server error.")
