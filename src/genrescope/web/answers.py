"""Answers of the page: each is a job, whose result lies in a folder until it is forgotten."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from genrescope import SAMPLES, sample
from genrescope.io import CsvWriter
from genrescope.representations.embedding import Embedding
from genrescope.serialize import CSV_COLUMNS, csv_cells
from genrescope.service.analysis import PICTURE, SOUND, AnalysisOptions, UploadAnalysis
from genrescope.service.answer import answer_values, named_track_values
from genrescope.service.service import Service
from genrescope.web.clients import client_of
from genrescope.web.jobs import RESULT, ServerJob, ServerJobs
from genrescope.web.upload import Uploads

_EXPLAINED_S = 60  # of models with windows: an explanation of more takes too long for a page
_ADDRESS = "/api/answers"
_CSV = "answer.csv"
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
        self._service, self.jobs = service, jobs
        embedder = service.classifier.representation.embedder
        self._explain_s = _EXPLAINED_S if isinstance(embedder, Embedding) else 0

    def begin(
        self, path: Path, client: str, *, held: ExitStack | None = None, stays: bool = False
    ) -> ServerJob:
        """Begin an answer; see ``ServerJobs.begin``."""
        work = partial(self._answer, path)
        return self.jobs.begin(path.name, client, work, held=held, stays=stays)

    def make_router(self, uploads: Uploads) -> APIRouter:
        """Make the routes of answers."""
        router, jobs = APIRouter(prefix=_ADDRESS, include_in_schema=False), self.jobs

        @router.post("")
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
            return await jobs.show_begun(job, _ADDRESS)

        router.add_api_route("/{id}", jobs.show)

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
            began=partial(self.jobs.started, job),
        )
        await anyio.to_thread.run_sync(
            write_answer, self._service, analysis, job.name, job.id, job.folder
        )


def write_answer(service: Service, analysis: UploadAnalysis, name: str, job: str, to: Path) -> None:
    """Write the page's answer to an analysis, as JSON and as CSV.

    Parameters
    ----------
    service
        Which has the model and the library.
    analysis
        With a timeline.
    name
        Of the file.
    job
        Id of the job, which is part of the links.
    to
        Folder with the picture and the sound.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder = service.library.folder if service.library else Path()
    place = f"{_ADDRESS}/{job}"
    content = {
        **answer_values(analysis, name, service.classifier.config.trained),
        "similar": [
            {
                **named_track_values(track, folder),
                "audio": f"/api/library/tracks/{track.row}/audio",
            }
            for track in service.near(analysis)
        ],
        "links": {
            "spectrogram": f"{place}/{PICTURE}" if (to / PICTURE).exists() else None,
            "audio": f"{place}/{SOUND}",
            "json": f"{place}/{RESULT}",
            "csv": f"{place}/{_CSV}",
        },
    }
    (to / RESULT).write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    table = io.StringIO()
    lines = CsvWriter(table)
    lines.row(*CSV_COLUMNS)
    lines.row(*csv_cells(name, analysis.prediction))
    (to / _CSV).write_text(table.getvalue(), encoding="utf-8", newline="")
