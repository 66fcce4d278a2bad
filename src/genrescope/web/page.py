"""The page's own files, a study's report, and what the page needs to begin."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from genrescope import SAMPLES, __version__, sample
from genrescope.errors import InputError
from genrescope.service.answer import calibration
from genrescope.service.service import Service
from genrescope.web.answers import AnswerMaker
from genrescope.web.jobs import ServerJob

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
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_KINDS = mimetypes.MimeTypes()  # Windows' own may call scripts text
_KINDS.add_type("font/woff2", ".woff2")
# The report is one file, with its style and pictures inside, and without code.


@dataclass(frozen=True)
class _StaticFile:
    content: bytes
    compressed: bytes | None
    kind: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> _StaticFile:
        content = path.read_bytes()
        kind = _kind(path.name)
        is_text = kind.startswith("text/") or kind.endswith(("javascript", "json", "svg+xml"))
        compressed = gzip.compress(content, mtime=0) if is_text else None
        return cls(content, compressed, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')

    def response(self, request: Request) -> Response:
        # A browser asks each time whether its copy is still the newest.
        headers = {"cache-control": "no-cache", "etag": self.tag, "vary": "accept-encoding"}
        if self.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = self.content
        if self.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["content-encoding"] = self.compressed, "gzip"
        return Response(content, headers=headers, media_type=self.kind)


class WebPage:
    """The page.

    Files are known when it is made: no name that is asked for is ever put together to a path.

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
        folder = Path(str(files("genrescope.web"))) / "static"
        self._static = {
            path.relative_to(folder).as_posix(): _StaticFile.read(path)
            for path in folder.rglob("*")
            if path.is_file()
        }
        self._report = {} if report is None else _report_files(report)
        self._example: ServerJob | None = None

    def begin_example(self) -> None:
        """Begin the answer that the page shows first."""
        self._example = self._answers.begin(sample(_EXAMPLE), "", stays=True)

    def make_router(self) -> APIRouter:
        """Make its routes."""
        router = APIRouter(include_in_schema=False)

        @router.get("/")
        async def index(request: Request) -> Response:
            return self._static["index.html"].response(request)

        @router.get("/static/{name:path}")
        async def static_file(name: str, request: Request) -> Response:
            if name not in self._static:
                raise HTTPException(404, "Not Found")
            return self._static[name].response(request)

        @router.get("/report/{name:path}")
        async def report_file(name: str) -> Response:
            if name not in self._report or not self._report[name].is_file():
                raise HTTPException(404, "Not Found")
            headers = {"content-security-policy": _REPORT_POLICY, "cache-control": "no-cache"}
            return FileResponse(self._report[name], headers=headers, media_type=_kind(name))

        @router.get("/docs")
        async def docs() -> Response:
            return RedirectResponse("/#/programs")

        @router.get("/api/page")
        async def config() -> Response:
            return JSONResponse(await self._config())

        return router

    async def _config(self) -> dict[str, Any]:
        limits, classifier = self._service.limits, self._service.classifier
        megabytes, minutes = limits.megabytes, limits.minutes
        library, trained = self._service.library, classifier.config.trained
        first = next((name for name in _FIRST if name in self._report), None)
        return {
            "version": __version__,
            "limits": {"megabytes": megabytes, "minutes": minutes, "files": _FILES},
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
    return _KINDS.guess_type(name)[0] or "application/octet-stream"


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
