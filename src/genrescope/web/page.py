"""The page's own files, a study's report, and what the page needs to begin."""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from genrescope import SAMPLES, __version__, sample
from genrescope.errors import InputError
from genrescope.service.answer import AnswerMaker
from genrescope.service.jobs import ServerJob
from genrescope.service.service import Service
from genrescope.service.values import calibration

_STATIC = Path(__file__).parent / "static"
_TITLES = {"lament": "Slow quartet", "pulse": "Machine beat", "shuffle": "Swinging band"}
_FILES = 20  # that the page sends at once
_EXAMPLE_S = 10.0  # that the page waits for its example
_EXAMPLE = "shuffle"
_FIRST = ("index.html", "report.html")  # pages of a report
_REPORT = frozenset(
    [".html", ".css", ".svg", ".png", ".pdf", ".csv", ".tex", ".json", ".bib", ".md"]
)
_REPORT_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    # Without it a report could lead a browser away by itself (meta refresh).
    "sandbox allow-same-origin allow-downloads allow-popups"
)
_KINDS = mimetypes.MimeTypes()  # Windows' own may call scripts text
_KINDS.add_type("font/woff2", ".woff2")
# The report is one file, with its style and pictures inside, and without code.


class _PageFiles(StaticFiles):
    # A browser asks each time whether its copy is still the newest.

    def file_response(self, full_path: Any, *args: Any, **options: Any) -> Response:
        response = super().file_response(full_path, *args, **options)
        response.headers["content-type"] = _kind(str(full_path))
        response.headers["cache-control"] = "no-cache"
        return response


class WebPage:
    """The page.

    A report's files are known when it is made: no name that is asked for is put together to a path.

    Parameters
    ----------
    service, answers
        See there.
    report
        Folder of a study's report.
    writing
        Whether the library's tags may be changed.

    Raises
    ------
    InputError
        If the report's folder holds none.
    """

    def __init__(
        self, service: Service, answers: AnswerMaker, report: Path | None, *, writing: bool
    ) -> None:
        self._service, self._answers, self._writing = service, answers, writing
        self._report = {} if report is None else _report_files(report.resolve())
        self._example: ServerJob | None = None

    def begin_example(self) -> None:
        """Begin the answer that the page shows first."""
        self._example = self._answers.begin(sample(_EXAMPLE), "", stays=True)

    def add_routes(self, app: FastAPI) -> None:
        """Add its routes to an application."""
        static = _PageFiles(directory=_STATIC)
        small = [Middleware(GZipMiddleware, compresslevel=6)]

        async def index(request: Request) -> Response:
            return await static.get_response("index.html", request.scope)

        async def report_file(request: Request) -> Response:
            path = self._report.get(name := request.path_params["name"])
            if path is None or path.resolve() != path or not path.is_file():  # it may be a link now
                raise HTTPException(404, "Not Found")
            headers = {"content-security-policy": _REPORT_POLICY, "cache-control": "no-cache"}
            return FileResponse(path, headers=headers, media_type=_kind(name))

        app.routes.append(Mount("/static", static, middleware=small))
        app.routes.append(Route("/", index, middleware=small))
        app.routes.append(Route("/report/{name:path}", report_file, middleware=small))

        @app.get("/docs", include_in_schema=False)
        async def docs() -> Response:
            return RedirectResponse("/#/programs")

        @app.get("/api/page", include_in_schema=False)
        async def config() -> Response:
            return JSONResponse(await self._config())

    async def _config(self) -> dict[str, Any]:
        limits, classifier = self._service.limits, self._service.classifier
        library, trained = self._service.library, classifier.config.trained
        first = next((name for name in _FIRST if name in self._report), None)
        return {
            "version": __version__,
            "limits": {
                "megabytes": limits.megabytes,
                "minutes": limits.minutes,
                "keep_minutes": limits.keep_s / 60,
                "files": _FILES,
            },
            "genres": classifier.genres,
            "samples": [{"name": name, "title": _TITLES[name]} for name in SAMPLES],
            "example": await self._example_answer(),
            "calibration": calibration(trained),
            "card": {
                "license": str(trained.get("license", "")),
                "summary": str(trained.get("about", "")),
            },
            "library": library
            and {
                "name": library.folder.resolve().name,
                "tracks": len(library),
                "writing": self._writing,
            },
            "report": first and f"/report/{first}",
        }

    async def _example_answer(self) -> Any:
        if self._example is None:
            return None
        if (task := self._example.task) is not None:
            await asyncio.wait({task}, timeout=_EXAMPLE_S)
        return (await self._answers.jobs.follow(self._example))["answer"]


def _kind(name: str) -> str:
    kind = _KINDS.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _report_files(report: Path) -> dict[str, Path]:
    found = {
        path.relative_to(report).as_posix(): path
        for path in report.rglob("*")
        if path.suffix in _REPORT and path.is_file() and not path.is_symlink()
    }
    if not found.keys() & set(_FIRST):
        remedy = "Give the folder that `genrescope study --out` wrote"
        raise InputError(report, "it holds no report.html", remedy)
    return found
