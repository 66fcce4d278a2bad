"""The JSON API: a file in, its genres out."""

from __future__ import annotations

from contextlib import ExitStack
from math import inf
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from genrescope import __version__
from genrescope.service.analysis import AnalysisOptions
from genrescope.service.schema import ClassifyResponse, SimilarTrack
from genrescope.service.service import Service
from genrescope.service.values import result_values, track_values
from genrescope.web.clients import client_of
from genrescope.web.upload import Uploads


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
    megabytes: float
    minutes: float


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


_FAULTS: dict[int | str, dict[str, Any]] = {
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
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": UploadBody.model_json_schema()}},
    }
}


def make_router(service: Service, uploads: Uploads) -> APIRouter:
    """Make the routes for programs."""
    router = APIRouter()

    @router.post(
        "/api/classify",
        summary="Classify a file",
        response_model=ClassifyResponse,
        responses=_FAULTS,
        openapi_extra=_BODY,
    )
    async def classify(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=100, description="Genres and tags, at most.")] = 10,
        timeline: Annotated[bool, Query(description="Include the genre over time.")] = False,
        explain: Annotated[
            bool,
            Query(description="Include what the answer rests on; takes several times as long."),
        ] = False,
        similar: Annotated[int, Query(ge=0, le=100, description="Similar tracks, at most.")] = 5,
    ) -> ClassifyResponse:
        client = client_of(request.scope)
        with ExitStack() as held:
            held.enter_context(service.queue.place(client))
            path = await uploads.receive(request, held)
            wanted = AnalysisOptions(timeline=timeline, explain_s=inf if explain else 0)
            analysis = await service.analyse(path, client, wanted)
            near = None
            if (library := service.library) is not None:
                tracks = service.near(analysis, similar)
                near = [SimilarTrack(**track_values(track, library.folder)) for track in tracks]
            return ClassifyResponse(**result_values(analysis, path.name, top_k), similar=near)

    @router.get("/api/version", summary="Version, model and limits", responses={401: _FAULTS[401]})
    async def version() -> Version:
        limits, classifier = service.limits, service.classifier
        return Version(
            genrescope=__version__,
            model=classifier.key,
            genres=list(classifier.genres),
            megabytes=limits.megabytes,
            minutes=limits.minutes,
        )

    @router.get("/healthz", summary="Health check")
    async def health() -> Health:
        return Health(status="ok", inside=service.queue.inside, at_most=service.limits.inside)

    return router
