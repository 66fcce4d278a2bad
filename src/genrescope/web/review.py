"""The review's part of the API: jobs that plan, apply and undo changes of the library's tags."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from starlette.exceptions import HTTPException

from genrescope.library.similar import Library
from genrescope.service.jobs import ServerJobs, ThreadWork
from genrescope.tagging.formats import is_genre
from genrescope.tagging.review import PlanOptions, Progress, Review
from genrescope.taxonomy import load_taxonomy
from genrescope.web.clients import client_of
from genrescope.web.library import MAX_ROWS
from genrescope.web.messages import check_header, job_begun, job_route, json_response, read_json

_JOBS = "/api/library/jobs"


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
    router = APIRouter(prefix="/api/library", include_in_schema=False)

    async def begin(
        name: str, request: Request, work: ThreadWork, held: ExitStack | None = None
    ) -> Response:
        job = jobs.begin_in_thread(name, client_of(request.scope), work, held)
        return await job_begun(jobs, job, _JOBS)

    @router.get("/plan")
    async def options() -> Response:
        return json_response(await to_thread.run_sync(_options))

    @router.post("/plan", status_code=202)
    async def plan(request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(PlanOptions))

        def make(progress: Progress) -> dict[str, Any]:
            draft = review.plan(wanted, progress)
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
            held.enter_context(review.claim(draft, rows))
            return await begin("apply", request, work, held)

    router.add_api_route("/jobs/{id}", job_route(jobs))

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


def _options() -> dict[str, Any]:
    names = sorted({*load_taxonomy().spellings.values()}, key=str.casefold)
    return {"options": TypeAdapter(PlanOptions).json_schema(), "genres": names}
