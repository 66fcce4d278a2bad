"""The page's part of the API: answers, each of which is a job with files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from genrescope import SAMPLES, sample
from genrescope.service.answer import ADDRESS, AnswerMaker
from genrescope.web.clients import client_of
from genrescope.web.messages import job_begun, job_route
from genrescope.web.upload import Uploads

_File = Literal["spectrogram.png", "audio.mp3", "answer.json", "answer.csv"]


def answer_routes(answers: AnswerMaker, uploads: Uploads) -> APIRouter:
    """Make the routes below ``/api/answers``."""
    router, jobs = APIRouter(prefix=ADDRESS, include_in_schema=False), answers.jobs

    @router.post("")
    async def begin(
        request: Request,
        name: Annotated[str | None, Query(alias="sample", description="Of a sample.")] = None,
    ) -> Response:
        client = client_of(request.scope)
        if name is not None and name not in SAMPLES:
            raise HTTPException(422, f"A sample is one of {', '.join(SAMPLES)}.")
        with ExitStack() as held:
            held.enter_context(answers.place(client))
            path = sample(name) if name else await uploads.receive(request, held)
            job = answers.begin(path, client, held=held)
        return await job_begun(jobs, job, ADDRESS)

    router.add_api_route("/{id}", job_route(jobs))

    @router.delete("/{id}")
    async def forget(id: str) -> Response:  # noqa: A002  the address's own word
        await jobs.forget(jobs.find(id))
        return Response(status_code=204)

    @router.get("/{id}/{file}")
    async def get_file(id: str, file: _File) -> Response:  # noqa: A002
        job = jobs.find(id)
        path = job.folder / file
        if not path.is_file():
            raise HTTPException(404, "The answer has no such file.")
        return FileResponse(
            path,
            filename=f"{Path(job.name).stem}{path.suffix}",
            content_disposition_type="inline" if path.suffix in {".png", ".mp3"} else "attachment",
            headers={"cache-control": "private, max-age=600"},
        )

    return router
