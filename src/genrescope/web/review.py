"""The review's part of the API: jobs that plan, apply and undo changes of the library's tags."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from starlette.exceptions import HTTPException

from genrescope.library.similar import Library
from genrescope.service.queue import FullError
from genrescope.tagging.formats import is_genre
from genrescope.tagging.policy import AlbumVote, Policy
from genrescope.tagging.review import Progress, Review
from genrescope.taxonomy import load_taxonomy
from genrescope.web.clients import client_of
from genrescope.web.jobs import RESULT, ServerJob, ServerJobs
from genrescope.web.library import MAX_ROWS, check_header, json_response, read_json

_MAX_UNFINISHED = 8  # changes, which are made one after the other
_REPORT_S = 0.1  # between two reports of progress
_JOBS = "/api/library/jobs"
_OF_POLICY = {one.name for one in fields(Policy)}


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PlanRequest(Policy):
    """The options of a plan, as of ``genrescope tag plan``."""

    album: AlbumVote = AlbumVote.AGREE
    from_tags: bool = False
    break_hard_links: bool = False

    @property
    def others(self) -> dict[str, Any]:
        """Those that are not of the policy."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_POLICY}


class ReviewedRow(BaseModel):
    """The decision on a row of a plan; rows without one are left alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n: int
    action: Literal["write", "leave"] = "write"
    new: list[Annotated[str, Field(max_length=200)]] | None = Field(
        default=None, min_length=1, max_length=20, description="Other genres than the plan's."
    )

    @field_validator("new")
    @classmethod
    def _check_genres(cls, new: list[str] | None) -> list[str] | None:
        for name in new or ():
            if not is_genre(name):
                raise ValueError(f"{name!r} is not a genre")
        return new and list(dict.fromkeys(name.strip() for name in new))


class ApplyRequest(BaseModel):
    """The rows of a plan to apply."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: list[ReviewedRow] = Field(min_length=1, max_length=MAX_ROWS)
    preserve_mtime: bool = False


def review_routes(library: Library, folder: Path, journal: Path, jobs: ServerJobs) -> APIRouter:
    """Make the routes below ``/api/library`` that change tags, and those that show changes.

    Parameters
    ----------
    library
        Whose files may be changed, and no others.
    folder
        For plans; the server deletes it when it ends.
    journal
        Of the changes: the one of ``genrescope tag``, which can undo them, too.
    jobs
        Of the server; changes are jobs, one at a time.
    """
    review = Review(library, Path(tempfile.mkdtemp(prefix="plans-", dir=folder)), journal)
    lock = asyncio.Lock()
    router = APIRouter(prefix="/api/library", include_in_schema=False)

    async def begin(
        name: str, request: Request, work: _Work, held: ExitStack | None = None
    ) -> Response:
        if jobs.unfinished >= _MAX_UNFINISHED:
            raise FullError
        run = partial(_run, jobs, lock, work)
        job = jobs.begin(name, client_of(request.scope), run, held=held)
        return await jobs.show_begun(job, _JOBS)

    @router.get("/plan")
    async def options() -> Response:
        return json_response(await to_thread.run_sync(_options))

    @router.post("/plan", status_code=202)
    async def plan(request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(PlanRequest))

        def make(progress: Progress) -> dict[str, Any]:
            draft = review.plan(wanted, progress, **wanted.others)
            return {"plan": draft.key, "counts": draft.counts}

        return await begin("plan", request, make)

    @router.get("/plans/{key}")
    async def rows(key: str, left: bool = False) -> Response:
        draft = review.draft(key)
        found = await to_thread.run_sync(partial(review.rows, draft, left=left))
        head = {"id": draft.key, "summary": draft.summary, "note": draft.note}
        return json_response({**head, "counts": draft.counts, "rows": found})

    @router.get("/plans/{key}/plan.csv")
    async def plan_file(key: str) -> Response:
        return FileResponse(review.draft(key).file, filename="plan.csv", media_type="text/csv")

    @router.post("/plans/{key}/apply", status_code=202)
    async def apply(key: str, request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(ApplyRequest))
        draft = review.draft(key)
        if len({row.n for row in wanted.rows}) < len(wanted.rows):
            raise HTTPException(422, "A row is named twice.")
        rows = {
            row.n: None if row.new is None else tuple(row.new)
            for row in wanted.rows
            if row.action == "write"
        }
        if not rows:
            raise HTTPException(422, "No row is to be written.")
        work = partial(review.apply, draft, rows, preserve_mtime=wanted.preserve_mtime)
        with ExitStack() as held:  # taken over by the job, if it begins
            review.claim(draft, rows)
            held.callback(review.release, draft, rows)
            return await begin("apply", request, work, held)

    router.add_api_route("/jobs/{id}", jobs.show)

    @router.delete("/jobs/{key}", status_code=204)
    async def stop(key: str, request: Request) -> Response:
        check_header(request)
        await jobs.forget(jobs.find(key))
        return Response(status_code=204)

    @router.get("/history")
    async def history() -> Response:
        return json_response(await to_thread.run_sync(review.history))

    @router.get("/history/{number}")
    async def changes(number: int) -> Response:
        return json_response(await to_thread.run_sync(review.changes, number))

    @router.post("/history/{number}/{what}", status_code=202)
    async def resume(number: int, what: Literal["undo", "resume"], request: Request) -> Response:
        await read_json(request, TypeAdapter(dict[str, None]))
        await to_thread.run_sync(review.changes, number)  # refuses those of other libraries
        return await begin(what, request, partial(review.resume, number, undo=what == "undo"))

    return router


_Work = Callable[[Progress], dict[str, Any]]


class _StopWork(Exception):  # noqa: N818  not an error
    pass


async def _run(jobs: ServerJobs, lock: asyncio.Lock, work: _Work, job: ServerJob) -> None:
    # In a thread, which a cancelled job leaves to end between two files.
    loop, stop = asyncio.get_running_loop(), threading.Event()
    reported = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal reported
        if stop.is_set():
            raise _StopWork
        if (now := time.monotonic()) > reported + _REPORT_S:
            reported = now
            loop.call_soon_threadsafe(jobs.progressed, job, done, total)

    async with lock:
        jobs.started(job)
        task = asyncio.create_task(to_thread.run_sync(work, progress))
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            with suppress(Exception):
                await task
            raise
        (job.folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


def _options() -> dict[str, Any]:
    names = sorted({*load_taxonomy().spellings.values()}, key=str.casefold)
    return {"options": TypeAdapter(PlanRequest).json_schema(), "genres": names}
