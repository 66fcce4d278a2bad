"""Answers for the page: each is a job, whose result lies in a folder until it is forgotten."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from anyio import to_thread

from genrescope.io import CsvWriter
from genrescope.representations.embedding import Embedding
from genrescope.serialize import CSV_COLUMNS, csv_cells
from genrescope.service.analysis import PICTURE, SOUND, AnalysisOptions, UploadAnalysis
from genrescope.service.jobs import RESULT, ServerJob, ServerJobs
from genrescope.service.service import Service
from genrescope.service.values import answer_values, named_track_values

ADDRESS = "/api/answers"
"""Where clients find answers."""

_EXPLAINED_S = 60  # of models with windows: an explanation of more takes too long for a page
_CSV = "answer.csv"


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

    def place(self, client: str) -> AbstractContextManager[None]:
        """Stay in the queue; see ``FairQueue.place``."""
        return self._service.queue.place(client)

    def begin(
        self, path: Path, client: str, *, held: ExitStack | None = None, stays: bool = False
    ) -> ServerJob:
        """Begin an answer; see ``ServerJobs.begin``."""
        work = partial(self._answer, path)
        return self.jobs.begin(path.name, client, work, held=held, stays=stays)

    async def _answer(self, path: Path, job: ServerJob) -> None:
        analysis = await self._service.analyse(
            path,
            job.client,
            AnalysisOptions(timeline=True, show=job.folder, explain_s=self._explain_s),
            name=job.id,
            began=partial(self.jobs.started, job),
        )
        await to_thread.run_sync(
            write_answer, self._service, analysis, job.name, f"{ADDRESS}/{job.id}", job.folder
        )


def write_answer(
    service: Service, analysis: UploadAnalysis, name: str, address: str, to: Path
) -> None:
    """Write the page's answer to an analysis, as JSON and as CSV.

    Parameters
    ----------
    service
        Which has the model and the library.
    analysis
        With a timeline.
    name
        Of the file.
    address
        Of the job, which the links begin with.
    to
        Folder with the picture and the sound.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder = service.library.folder if service.library else Path()
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
            "spectrogram": f"{address}/{PICTURE}" if (to / PICTURE).exists() else None,
            "audio": f"{address}/{SOUND}",
            "json": f"{address}/{RESULT}",
            "csv": f"{address}/{_CSV}",
        },
    }
    (to / RESULT).write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    table = io.StringIO()
    lines = CsvWriter(table)
    lines.row(*CSV_COLUMNS)
    lines.row(*csv_cells(name, analysis.prediction))
    (to / _CSV).write_text(table.getvalue(), encoding="utf-8", newline="")
