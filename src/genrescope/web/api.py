"""The JSON API: a file in, its genres out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from genrescope import __version__
from genrescope.service.analysis import AnalysisOptions
from genrescope.service.schema import BODY, FAULTS, ClassifyResponse, Health, SimilarTrack, Version
from genrescope.service.service import Service
from genrescope.service.values import result_values, track_values
from genrescope.web.clients import client_of
from genrescope.web.upload import Uploads


def make_router(service: Service, uploads: Uploads) -> APIRouter:
    """Make the routes for programs."""
    router = APIRouter()

    @router.post(
        "/api/classify",
        summary="Classify a file",
        response_model=ClassifyResponse,
        responses=FAULTS,
        openapi_extra=BODY,
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
            wanted = AnalysisOptions(timeline=timeline, explain=explain)
            analysis = await service.analyse(path, client, wanted)
            near = None
            if (library := service.library) is not None:
                tracks = await to_thread.run_sync(service.near, analysis, similar)
                near = [SimilarTrack(**track_values(track, library.folder)) for track in tracks]
            return ClassifyResponse(**result_values(analysis, path.name, top_k), similar=near)

    @router.get("/api/version", summary="Version, model and limits", responses={401: FAULTS[401]})
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
