"""Answers of the page: each is a job, whose result lies in a folder until it is forgotten."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from genrescope import SAMPLES, sample
from genrescope.representations.embedding import Embedding
from genrescope.service.analysis import AnalysisOptions
from genrescope.service.service import Service
from genrescope.web.clients import client_of
from genrescope.web.jobs import ServerJob, ServerJobs
from genrescope.web.results import JSON, write_answer
from genrescope.web.upload import Uploads

_EXPLAINED_S = 60  # of models with windows: an explanation of more takes too long for a page
_LONGEST_WAIT_S = 30
_NO_STORE = {"cache-control": "no-store"}
_File = Literal["spectrogram.png", "audio.mp3", "answer.json", "answer.csv"]


class AnswerMaker:
    """Makes answers.

    Parameters
    ----------
    service
        The classifier and its queue.
    jobs
        Where they are kept.
    """

    def __init__(self, service: Service, jobs: ServerJobs) -> None:
        self._service, self._jobs = service, jobs
        embedder = service.classifier.representation.embedder
        self._explain_s = _EXPLAINED_S if isinstance(embedder, Embedding) else 0

    def begin(
        self, path: Path, client: str, *, held: ExitStack | None = None, stays: bool = False
    ) -> ServerJob:
        """Begin an answer; see ``ServerJobs.begin``."""
        work = partial(self._answer, path)
        return self._jobs.begin(path.name, client, work, held=held, stays=stays)

    async def state(self, job: ServerJob, since: int = 0, wait_s: float = 0.0) -> dict[str, Any]:
        """Give an answer's state, with the answer once it is done; see ``ServerJobs.follow``."""
        state = await self._jobs.follow(job, since, wait_s)
        answer = None
        if state["state"] == "done":
            try:
                answer = json.loads(await anyio.Path(job.folder / JSON).read_bytes())
            except FileNotFoundError:  # forgotten just now
                raise HTTPException(404, "The answer is no longer kept.") from None
        return {**state, "answer": answer}

    def make_router(self, uploads: Uploads) -> APIRouter:
        """Make the routes of answers."""
        router, jobs = APIRouter(include_in_schema=False), self._jobs

        @router.post("/api/answers")
        async def begin(
            request: Request,
            name: Annotated[str | None, Query(alias="sample", description="Of a sample.")] = None,
        ) -> Response:
            client = client_of(request.scope)
            if name is not None and name not in SAMPLES:
                raise HTTPException(422, f"A sample is one of {', '.join(SAMPLES)}.")
            with ExitStack() as held:
                held.enter_context(self._service.queue.place(client))
                if name is not None:
                    path = sample(name)
                else:
                    path = await uploads.receive(request, held)
                job = self.begin(path, client, held=held)
            where = {"location": f"/api/answers/{job.id}", **_NO_STORE}
            return JSONResponse(await self.state(job), 202, where)

        @router.get("/api/answers/{id}")
        async def follow(
            id: str,  # noqa: A002  the address's own word
            wait: Annotated[
                float, Query(ge=0, le=_LONGEST_WAIT_S, description="Seconds to wait for a change.")
            ] = 0,
            since: Annotated[int, Query(ge=0, description="The version that is known.")] = 0,
        ) -> Response:
            state = await self.state(jobs.find(id), since, wait)
            return JSONResponse(state, headers=_NO_STORE)

        @router.delete("/api/answers/{id}")
        async def forget(id: str) -> Response:  # noqa: A002
            job = jobs.find(id)
            if job.stays:
                raise HTTPException(403, "The example stays.")
            await jobs.forget(job)
            return Response(status_code=204)

        @router.get("/api/answers/{id}/{file}")
        async def get_file(id: str, file: _File) -> Response:  # noqa: A002
            job = jobs.find(id)
            path = job.folder / file
            if not path.is_file():
                raise HTTPException(404, "The answer has no such file.")
            kind = "inline" if path.suffix in {".png", ".mp3"} else "attachment"
            return FileResponse(
                path,
                filename=f"{Path(job.name).stem}{path.suffix}",
                content_disposition_type=kind,
                headers={"cache-control": "private, max-age=600"},
            )

        return router

    async def _answer(self, path: Path, job: ServerJob) -> None:
        analysis = await self._service.analyse(
            path,
            job.client,
            AnalysisOptions(timeline=True, show=job.folder, explain_s=self._explain_s),
            name=job.id,
            began=partial(self._jobs.started, job),
        )
        await anyio.to_thread.run_sync(
            write_answer, self._service, analysis, job.name, job.id, job.folder
        )
