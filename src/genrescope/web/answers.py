"""The page's part of the API: answers, each of which is a job with files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from genrescope import SAMPLES, sample
from genrescope.service.answer import ADDRESS, WHY, AnswerMaker
from genrescope.service.schema import BODY, FAULTS, JobState
from genrescope.web.clients import client_of
from genrescope.web.messages import job_begun, job_route
from genrescope.web.upload import Uploads

_GONE = {**FAULTS[400], "description": "There is no such answer, or it is no longer kept."}
_ONE = f"{ADDRESS}/{{id}}"
_KINDS = {".png": "image/png", ".flac": "audio/flac"}  # of what the page shows and plays
_File = Literal["spectrogram.png", "audio.flac", "answer.json", "answer.csv"]


def answer_routes(answers: AnswerMaker, uploads: Uploads) -> APIRouter:
    """Make the routes below ``/api/answers`` and ``/api/explanations``."""
    router, jobs = APIRouter(responses={**FAULTS, 404: _GONE}), answers.jobs

    @router.post(
        ADDRESS,
        status_code=202,
        summary="Begin an answer",
        response_model=JobState,
        openapi_extra=BODY,
    )
    async def begin(
        request: Request,
        name: Annotated[str | None, Query(alias="sample", description="Instead of a file.")] = None,
        track: Annotated[int | None, Query(description="Of the library, by its number.")] = None,
    ) -> Response:
        client = client_of(request.scope)
        if name is not None and (name not in SAMPLES or track is not None):
            raise HTTPException(422, f"A sample is one of {', '.join(SAMPLES)}, without a track.")
        with ExitStack() as held:
            held.enter_context(answers.place(client))
            if track is not None:
                path = await answers.track(track)
            else:
                path = sample(name) if name else await uploads.receive(request, held)
            job = answers.begin(path, client, held=held, track=track)
        return await job_begun(jobs, job, ADDRESS)

    state = router.get(_ONE, summary="State of an answer", response_model=JobState)
    state(job_route(jobs))

    @router.delete(_ONE, status_code=204, summary="Cancel and delete an answer")
    async def forget(id: str) -> Response:  # noqa: A002  the address's own word
        await jobs.forget(jobs.find(id))
        return Response(status_code=204)

    @router.post(
        f"{WHY}/{{id}}",
        status_code=202,
        summary="Find what an answer rests on",
        response_model=JobState,
        responses={409: {**_GONE, "description": "The answer has no sound, or not yet."}},
    )
    async def explain(id: str, request: Request) -> Response:  # noqa: A002
        client = client_of(request.scope)
        with ExitStack() as held:
            held.enter_context(answers.place(client))
            job = answers.explain(jobs.find(id), client, held)
        return await job_begun(jobs, job, ADDRESS)

    @router.get(f"{_ONE}/{{file}}", summary="A file of an answer", response_class=FileResponse)
    async def get_file(id: str, file: _File) -> Response:  # noqa: A002
        job = jobs.find(id)
        path = job.folder / file
        if not path.is_file():
            raise HTTPException(404, "The answer has no such file.")
        return FileResponse(
            path,
            filename=f"{Path(job.name).stem}{path.suffix}",
            media_type=_KINDS.get(path.suffix),
            content_disposition_type="inline" if path.suffix in _KINDS else "attachment",
            headers={"cache-control": "private, max-age=600"},
        )

    return router
