"""Faults of requests in words: a title and a remedy for people, a detail for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from genrescope.errors import GenrescopeError, InputError, NotFoundError
from genrescope.service.analysis import TooLongError
from genrescope.service.answer import NotDoneError
from genrescope.service.jobs import StaysError
from genrescope.service.queue import FullError
from genrescope.service.service import TooSlowError
from genrescope.tagging.review import AppliedError
from genrescope.web.clients import log_fault

_WORDS = {
    # Status: what is wrong, what to do.
    400: ("The request is malformed", "Reload the page; /docs says what programs may ask"),
    401: ("A token is needed", "Open the page by the address that contains its token"),
    403: ("This is not allowed", "Open the page itself, and try again there"),
    404: ("There is nothing here", "Go back to the page and begin again"),
    408: ("The upload took too long", "Send a smaller file, or use a faster connection"),
    413: ("This is too large", "Send a part of it; of sound, an MP3 is smaller"),
    421: ("The server has another name", "Open the page by the address that the server printed"),
    500: ("The server failed", "Try again, or try another file"),
    503: ("The server is busy", "Try again in a few seconds"),
    507: ("The server has no disk space left", "Try again later"),
}
_STATUS = {
    AppliedError: 409,
    NotDoneError: 409,
    NotFoundError: 404,
    StaysError: 403,
    TooLongError: 413,
    TooSlowError: 504,
}


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
            status = _STATUS.get(type(error), 422)
            if status == 404:
                title, remedy = str(error).removesuffix("."), f"{_WORDS[404][1]}."
                return Fault(status, title, remedy, str(error))
            return Fault(status, str(error), "", str(error))
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


def job_words(error: Exception) -> dict[str, str]:
    """Put the error of a job into words, and a fault of ours into the log."""
    found = fault_of(error)
    if found.status == 500:
        log_fault(error)
    return found.words


def error_response(error: Exception) -> JSONResponse:
    """Make the response to a request that failed."""
    found = fault_of(error)
    content = {"detail": found.detail, "error": found.words}
    return JSONResponse(content, found.status, found.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let an application answer with an error's own status and words."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        response = error_response(error)
        if response.status_code == 405:  # the framework names the methods of one route alone
            path = getattr(request.scope.get("route"), "path", "")
            if known := app.openapi()["paths"].get(path):
                response.headers["allow"] = ", ".join(known).upper()
        return response

    # Exception: else the framework answers in a form of its own; it is raised on, and so logged.
    kinds = (HTTPException, RequestValidationError, GenrescopeError, FullError, OSError, Exception)
    for kind in kinds:
        app.add_exception_handler(kind, answer)
