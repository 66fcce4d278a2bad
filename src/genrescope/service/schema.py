"""What the API takes and gives, for its description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_GENRE = "Null where it is none of the model's genres."
_OTHER = "Whether it is none of the model's genres."
_BEST = "The most likely of the model's genres, also where it is none of them."
_CONFIDENCE = "Probability of the most likely genre, among the model's genres."


class Score(BaseModel):
    """A genre or tag and its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class TimelineResponse(BaseModel):
    """The most likely genre of every step."""

    step_s: float | None = Field(description="Seconds; null where the clip is taken as one.")
    genres: list[str | None] = Field(description="Null where it is silent.")


class SimilarTrack(BaseModel):
    """A track of the server's library that sounds like the file."""

    path: str = Field(description="Below the library's folder.")
    similarity: float = Field(ge=-1, le=1, description="Cosine of the embeddings.")
    genre: str | None = Field(description=_GENRE)
    other: bool = Field(description=_OTHER)
    best: str = Field(description=_BEST)
    confidence: float = Field(ge=0, le=1, description=_CONFIDENCE)


class ExplanationResponse(BaseModel):
    """The seconds and frequencies that the answer rests on."""

    genre: str = Field(description=_BEST)
    probability: float = Field(ge=0, le=1, description="Of the genre, by the whole of the clip.")
    times_s: list[float] = Field(description="Edges of the cells in time, in s.")
    bands_hz: list[float] = Field(description="Edges of the cells in frequency, in Hz.")
    drops: list[list[float]] = Field(
        description="How far the probability drops without each cell: time × band."
    )


class ClassifyResponse(BaseModel):
    """The prediction for a file."""

    file: str = Field(description="Its name.")
    seconds: float = Field(ge=0, description="Length, in s.")
    genre: str | None = Field(description=_GENRE)
    other: bool = Field(description=_OTHER)
    best: str = Field(description=_BEST)
    confidence: float = Field(ge=0, le=1, description=_CONFIDENCE)
    unsure: bool = Field(
        description="Low confidence: the genre may well be wrong. False where none is named."
    )
    sentence: str = Field(description="The prediction in words.")
    scores: list[Score] = Field(description="Of the genres, the most likely first.")
    tags: list[Score] = Field(description="Of the tagger, the most likely first.")
    warnings: list[str] = Field(description="Notes, such as how much is damaged.")
    timeline: TimelineResponse | None = None
    explanation: ExplanationResponse | None = None
    similar: list[SimilarTrack] | None = Field(default=None, description="With a library only.")


class JobProgress(BaseModel):
    """How far a job is."""

    done: int
    total: int


class JobState(BaseModel):
    """How far an answer is."""

    id: str = Field(description="The last part of its address.")
    name: str = Field(description="Of the file.")
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    version: int = Field(description="Rises with every change.")
    place: int | None = Field(description="In the queue; 1 is next, null if it does not wait.")
    running_s: float | None = Field(description="Since its work began, in s; null before.")
    progress: JobProgress | None
    error: dict[str, str] | None = Field(description="Of a failed one: title, remedy, detail.")
    answer: dict[str, Any] | None = Field(description="Of one that is done.")


class Health(BaseModel):
    """The state of the server."""

    status: str
    inside: int = Field(description="Requests being received, queued or processed.")
    at_most: int


class Version(BaseModel):
    """The version, the model and the limits of the server."""

    model_config = ConfigDict(protected_namespaces=())

    genrescope: str
    model: str = Field(description="Changes with anything that predictions depend on.")
    genres: list[str]
    megabytes: float = Field(description="Of a request, at most; 10⁶ bytes each.")
    minutes: float = Field(description="Of audio in a file, at most.")


class ErrorWords(BaseModel):
    """Why something failed, in words."""

    title: str = Field(description="What is wrong.")
    remedy: str = Field(description="What to do about it; may be empty.")
    detail: str = Field(description="For programs and logs.")


class ErrorResponse(BaseModel):
    """Why a request failed."""

    detail: str
    error: ErrorWords


class UploadBody(BaseModel):
    """The body of a request with a file."""

    file: bytes = Field(description="Audio in any usual format.")


FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "The request is malformed.",
        401: "The token is missing or wrong.",
        403: "The request comes from a page of another site.",
        408: "The upload took too long.",
        413: "The file is too large or too long.",
        422: "The file cannot be decoded, or a parameter is invalid.",
        503: "Too many requests; try again later.",
        504: "Analysing the file took too long.",
        507: "The server has no disk space for the file.",
    }.items()
}
"""Of requests, for the description of the API."""

BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": UploadBody.model_json_schema()}},
    }
}
"""Of a request with a file, for its description."""
