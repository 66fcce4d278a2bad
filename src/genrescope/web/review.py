"""The review's part of the API: jobs that plan, apply and undo changes of the library's tags."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator
from starlette.exceptions import HTTPException

from genrescope.errors import GenrescopeError, InputError
from genrescope.library.similar import Library
from genrescope.tagging.formats import is_genre
from genrescope.tagging.policy import Policy
from genrescope.tagging.review import AppliedError, NotFoundError, Progress, Review
from genrescope.taxonomy import load_taxonomy
from genrescope.web.library import check_header, json_response, read_json

_KEPT = 50  # jobs
_WAIT_S = 20.0
_PlanOptions: Any = pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))(
    Policy
)


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

    rows: list[ReviewedRow] = Field(min_length=1)
    preserve_mtime: bool = False


def review_routes(library: Library, folder: Path, journal: Path) -> APIRouter:
    """Make the routes below ``/api/library`` that change tags, and those that show changes.

    Parameters
    ----------
    library
        Whose files may be changed, and no others.
    folder
        For plans; the server deletes it when it ends.
    journal
        Of the changes: the one of ``genrescope tag``, which can undo them, too.
    """
    review = Review(library, Path(tempfile.mkdtemp(prefix="plans-", dir=folder)), journal)
    jobs = _Jobs()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await jobs.close()

    router = APIRouter(prefix="/api/library", tags=["review"], lifespan=lifespan)

    @router.get("/plan", summary="Options of a plan, and names of genres")
    async def options() -> Response:
        return json_response(await to_thread.run_sync(_options))

    @router.post("/plan", status_code=202, summary="Plan changes; changes no file")
    async def plan(request: Request) -> Response:
        policy = await read_json(request, TypeAdapter(_PlanOptions))

        def make(progress: Progress) -> dict[str, Any]:
            draft = review.plan(policy, progress)
            return {"plan": draft.key, "counts": draft.counts, "note": draft.note}

        return jobs.begin("plan", make)

    @router.get("/plans/{key}", summary="The rows of a plan")
    async def rows(
        key: str,
        left: Annotated[bool, Query(description="Include the files that are left alone.")] = False,
    ) -> Response:
        draft = _found(review.draft, key)
        found = await to_thread.run_sync(partial(review.rows, draft, left=left))
        return json_response({"id": draft.key, "counts": draft.counts, "rows": found})

    @router.get("/plans/{key}/plan.csv", summary="A plan as `genrescope tag apply` reads it")
    async def plan_file(key: str) -> Response:
        file = _found(review.draft, key).file
        return FileResponse(file, filename="plan.csv", media_type="text/csv")

    @router.post("/plans/{key}/apply", status_code=202, summary="Apply rows of a plan")
    async def apply(key: str, request: Request) -> Response:
        wanted = await read_json(request, TypeAdapter(ApplyRequest))
        draft = _found(review.draft, key)
        if len({row.n for row in wanted.rows}) < len(wanted.rows):
            raise HTTPException(422, "A row is named twice.")
        rows = {
            row.n: None if row.new is None else tuple(row.new)
            for row in wanted.rows
            if row.action == "write"
        }
        if not rows:
            raise HTTPException(422, "No row is to be written.")
        _found(review.claim, draft, rows)
        work = partial(review.apply, draft, rows, preserve_mtime=wanted.preserve_mtime)
        return jobs.begin("apply", work)

    @router.get("/jobs/{key}", summary="The state of a job")
    async def state(
        key: str,
        wait: Annotated[float, Query(ge=0, le=_WAIT_S, description="For a change, in s.")] = 0,
        since: Annotated[int, Query(description="The version that is known.")] = -1,
    ) -> Response:
        return await jobs.state(key, wait, since)

    @router.delete("/jobs/{key}", status_code=204, summary="Stop a job between two files")
    async def stop(key: str, request: Request) -> None:
        check_header(request)
        jobs.job(key).is_cancelled = True

    @router.get("/history", summary="Plans that have been applied, the newest first")
    async def history() -> Response:
        return json_response(await to_thread.run_sync(review.history))

    @router.get("/history/{number}", summary="The changes of a plan of the history")
    async def changes(number: int) -> Response:
        return json_response(await to_thread.run_sync(_found, review.changes, number))

    @router.post("/history/{number}/{what}", status_code=202, summary="Undo or resume a plan")
    async def resume(number: int, what: Literal["undo", "resume"], request: Request) -> Response:
        await read_json(request, TypeAdapter(dict[str, None]))
        await to_thread.run_sync(_found, review.changes, number)
        return jobs.begin(what, partial(review.resume, number, undo=what == "undo"))

    return router


class _StopJob(Exception):  # noqa: N818  not an error
    pass


@dataclass
class _Job:
    # The version changes whenever something else does.
    name: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "waiting"  # then running; and done, failed or cancelled
    version: int = 0
    is_cancelled: bool = False
    progress: dict[str, int] = field(default_factory=dict)
    error: dict[str, str] | None = None
    answer: dict[str, Any] | None = None

    def enter(self, state: str) -> None:
        self.state = state
        self.version += 1

    def step(self, done: int, total: int) -> None:
        if self.is_cancelled:
            raise _StopJob
        self.progress = {"done": done, "total": total}
        self.version += 1

    def shown(self) -> Response:
        names = ("name", "state", "version", "progress", "error", "answer")
        return json_response({"id": self.key} | {name: getattr(self, name) for name in names})


class _Jobs:
    # One is worked on at a time.

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        for job in self._jobs.values():
            job.is_cancelled = True
        await asyncio.gather(*self._tasks)

    def job(self, key: str) -> _Job:
        if key not in self._jobs:
            raise HTTPException(404, "There is no such job, or not any more.")
        return self._jobs[key]

    async def state(self, key: str, wait_s: float, since: int) -> Response:
        job, now = self.job(key), asyncio.get_running_loop().time
        end = now() + wait_s
        while job.version == since and now() < end:
            await asyncio.sleep(0.05)
        return job.shown()

    def begin(self, name: str, work: Callable[[Progress], dict[str, Any]]) -> Response:
        if len(self._tasks) >= _KEPT:
            raise HTTPException(503, "Too many jobs are waiting; try again later.")
        job = _Job(name)
        self._jobs[job.key] = job
        while len(self._jobs) > 2 * _KEPT:  # more than can be unfinished
            unfinished = {"waiting", "running"}
            self._jobs.pop(next(k for k, one in self._jobs.items() if one.state not in unfinished))
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        answer = job.shown()
        answer.status_code = 202
        answer.headers["location"] = f"/api/library/jobs/{job.key}"
        return answer

    async def _run(self, job: _Job, work: Callable[[Progress], dict[str, Any]]) -> None:
        async with self._turn:
            try:
                job.enter("running")
                job.answer = await to_thread.run_sync(work, job.step)
                job.enter("done")
            except _StopJob:
                job.enter("cancelled")
            except Exception as error:  # noqa: BLE001  shown to whoever follows the job
                job.error = _described(error)
                job.enter("failed")


def _found(work: Callable[..., Any], *given: Any) -> Any:
    try:
        return work(*given)
    except NotFoundError as error:
        raise HTTPException(404, str(error)) from None
    except AppliedError as error:
        raise HTTPException(409, str(error)) from None


def _options() -> dict[str, Any]:
    names = sorted({*load_taxonomy().spellings.values()}, key=str.casefold)
    return {"options": TypeAdapter(_PlanOptions).json_schema(), "genres": names}


def _described(error: Exception) -> dict[str, str]:
    title, remedy = "Something went wrong.", "Each file is the old or the new one."
    if isinstance(error, InputError):
        title, remedy = f"{error.path.name}: {error.cause}.", f"{error.remedy}."
    elif isinstance(error, GenrescopeError):
        title, remedy = str(error), ""
    return {"title": title, "remedy": remedy, "detail": str(error)}
