"""Requests and responses in JSON, and what clients are shown of their jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from genrescope.io import to_json
from genrescope.service.jobs import ServerJob, ServerJobs

_Value = TypeVar("_Value")

_BODY = 2**22  # bytes of a request
_LONGEST = 1000  # letters about what is wrong with it, which name keys of the client's
_LONGEST_WAIT_S = 30


def check_header(request: Request) -> None:
    """Refuse a request that changes something and was not sent by a page of this server.

    A program sets the header. For a page of another site a browser asks the server's consent to
    this header first, and never gets it.

    Raises
    ------
    HTTPException
        If it comes without.
    """
    if request.headers.get("x-genrescope") != "1":
        raise HTTPException(403, "The header X-Genrescope: 1 is missing.")


async def read_json(request: Request, kind: TypeAdapter[_Value]) -> _Value:
    """Read the body of a request that changes something; see ``check_header``.

    Raises
    ------
    HTTPException
        If it is not declared as JSON, is too large, or its content is not as of ``kind``.
    """
    check_header(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Content-Type must be application/json.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY:
            raise HTTPException(413, f"More than {_BODY:,} bytes.")
    try:
        return await to_thread.run_sync(kind.validate_json, body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:5]
        )
        raise HTTPException(422, f"{text[:_LONGEST]}.") from None


def job_route(jobs: ServerJobs) -> Callable[..., Awaitable[Response]]:
    """Make the route that answers with the state of a job."""

    async def show(
        id: str,  # noqa: A002  the address's own word
        wait: Annotated[
            float, Query(ge=0, le=_LONGEST_WAIT_S, description="Seconds to wait for a change.")
        ] = 0,
        since: Annotated[int, Query(ge=0, description="The version that is known.")] = 0,
    ) -> Response:
        return json_response(await jobs.follow(jobs.find(id), since, wait))

    return show


async def job_begun(jobs: ServerJobs, job: ServerJob, address: str) -> Response:
    """Answer with a job that has just begun, and is found below an address."""
    place = {"location": f"{address}/{job.id}"}
    return json_response(await jobs.follow(job), 202, place)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON; names of files that are no text are escaped."""
    return Response(to_json(value), status, headers, "application/json")
