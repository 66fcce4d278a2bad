"""Faults of requests in words: a title and a remedy for people, a detail for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from genrescope.errors import GenrescopeError, InputError
from genrescope.service.analysis import TooLongError
from genrescope.service.queue import FullError
from genrescope.service.service import TooSlowError
from genrescope.tagging.review import AppliedError, NotFoundError

_WORDS = {
    # Status: what is wrong, what to do.
    400: ("The request is malformed", "Reload the page and try again"),
    401: ("A token is needed", "Open the page by the address that contains its token"),
    403: ("This is not allowed", "Open the page itself, and try again there"),
    404: (
        "This is not here",
        "It may have been deleted; go back, or send the file again",
    ),
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
    headers
        Of the response.
    """

    status: int
    title: str
    remedy: str
    detail: str
    headers: Mapping[str, str] | None = None

    @property
    def words(self) -> dict[str, str]:
        """Return ``title``, ``remedy`` and ``detail``."""
        return {"title": self.title, "remedy": self.remedy, "detail": self.detail}


def fault_of(error: Exception) -> Fault:
    """Put an error into words; of one that is not for users, only that there was one."""
    status, detail, headers = 500, "Internal server error.", None
    match error:
        case InputError():
            title = re.sub(r"^its ", "the file's ", re.sub(r"^it ", "the file ", error.cause))
            status = _STATUS.get(type(error), 422)
            words = f"{title[:1].upper()}{title[1:]}", f"{error.remedy}."
            return Fault(status, *words, str(error))
        case GenrescopeError():
            return Fault(_STATUS.get(type(error), 422), str(error), "", str(error))
        case RequestValidationError():
            faults = (f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
            status, detail = 422, f"{'; '.join(faults)}."
        case HTTPException():
            status, detail, headers = error.status_code, str(error.detail), error.headers
        case FullError():
            text = "Too many requests are waiting; try again in a few seconds."
            status, detail, headers = 503, text, {"retry-after": "5"}
        case OSError():
            text = f"The file cannot be kept here ({error.strerror}); try again later."
            status, detail = 507, text
    title, remedy = _WORDS.get(status, _WORDS[400] if status < 500 else _WORDS[500])
    return Fault(status, title, f"{remedy}.", detail, headers)


def error_response(error: Exception) -> JSONResponse:
    """Make the response to a request that failed."""
    found = fault_of(error)
    content = {"detail": found.detail, "error": found.words}
    return JSONResponse(content, found.status, found.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let an application answer with an error's own status and words."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return error_response(error)

    for kind in (HTTPException, RequestValidationError, GenrescopeError, FullError, OSError):
        app.add_exception_handler(kind, answer)
