"""Answers for the page: each is a job, whose result lies in a folder until it is forgotten."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from anyio import to_thread

from genrescope.classifier.explain import MAX_S
from genrescope.errors import GenrescopeError, InputError, NotFoundError
from genrescope.io import CsvWriter
from genrescope.representations.embedding import Embedding
from genrescope.serialize import CSV_COLUMNS, csv_cells, explanation_values
from genrescope.service.analysis import PICTURE, SOUND, AnalysisOptions, UploadAnalysis
from genrescope.service.jobs import RESULT, ServerJob, ServerJobs
from genrescope.service.service import Service
from genrescope.service.shelf import track_file
from genrescope.service.values import answer_values, named_track_values

ADDRESS, WHY = "/api/answers", "/api/explanations"
"""Where clients find answers, and ask what one rests on."""

_CSV = "answer.csv"
_SIMILAR = 5  # tracks


class NotDoneError(GenrescopeError):
    """An answer is not done, or has failed."""


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

    def place(self, client: str) -> AbstractContextManager[None]:
        """Stay in the queue; see ``FairQueue.place``."""
        return self._service.queue.place(client)

    def begin(
        self,
        path: Path,
        client: str,
        *,
        held: ExitStack | None = None,
        stays: bool = False,
        track: int | None = None,
    ) -> ServerJob:
        """Begin an answer; see ``ServerJobs.begin``. It is not similar to its own ``track``."""
        work = partial(self._answer, path, track)
        return self.jobs.begin(path.name, client, work, held=held, stays=stays)

    async def track(self, number: int) -> Path:
        """Return the file of a track of the library.

        Raises
        ------
        NotFoundError
            If there is no library, or as of ``track_file``.
        """
        if (library := self._service.library) is None:
            raise NotFoundError("There is no library.")
        path, _ = await to_thread.run_sync(track_file, library, number)
        return path

    def explain(self, answer: ServerJob, client: str, held: ExitStack) -> ServerJob:
        """Begin a job that finds what an answer rests on; see ``ServerJobs.begin``.

        Raises
        ------
        NotDoneError
            If it has no sound, or not yet.
        """
        if answer.state != "done" or not (sound := answer.folder / SOUND).exists():
            raise NotDoneError("This answer has no sound, or not yet.")
        return self.jobs.begin(answer.name, client, partial(self._explain, sound), held=held)

    async def _explain(self, sound: Path, job: ServerJob) -> None:
        began = partial(self.jobs.started, job)
        try:
            why = await self._service.explain(sound, job.client, name=job.id, began=began)
        except InputError:
            if sound.exists():
                raise
            raise NotFoundError("The answer has been deleted.") from None
        text = json.dumps(explanation_values(why), separators=(",", ":"))
        (job.folder / RESULT).write_text(text, encoding="utf-8")

    async def _answer(self, path: Path, track: int | None, job: ServerJob) -> None:
        library = self._service.library if track is not None else None
        within = library.folder if library is not None else None
        analysis = await self._service.analyse(
            path,
            job.client,
            AnalysisOptions(timeline=True, show=job.folder, within=within),
            name=job.id,
            began=partial(self.jobs.started, job),
        )
        write = partial(write_answer, self._service, analysis, job.name, job.id, job.folder, track)
        await to_thread.run_sync(write)


def write_answer(
    service: Service,
    analysis: UploadAnalysis,
    name: str,
    job: str,
    to: Path,
    track: int | None = None,
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
    job
        Its id, which is part of the links.
    to
        Folder with the picture and the sound.
    track
        Its number in the library, if it is of it.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    library = service.library
    has_windows = isinstance(service.classifier.representation.embedder, Embedding)
    explained = has_windows and analysis.seconds <= MAX_S  # of others it takes too long
    address = f"{ADDRESS}/{job}"
    content = {
        **answer_values(analysis, name, service.classifier.config.trained),
        "similar": [
            {
                **named_track_values(near, library),
                "track": near.row,
                "audio": f"/api/library/tracks/{near.row}/audio",
            }
            for near in service.near(analysis, _SIMILAR + 1)
            if library is not None and near.row != track
        ][:_SIMILAR],
        "links": {
            "spectrogram": f"{address}/{PICTURE}" if (to / PICTURE).exists() else None,
            "audio": f"{address}/{SOUND}",
            "explanation": f"{WHY}/{job}" if explained else None,
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
