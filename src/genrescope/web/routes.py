"""Access to gradio's own routes: those that the page's script uses, and no others.

Mounted in another application, gradio opens routes that the page has no use for, and takes whatever
path or address a browser names as a file that was uploaded.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrescope.web.clients import log_line
from genrescope.web.sessions import Sessions
from genrescope.web.upload import Uploads

_OPEN = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|healthz|openapi\.json"
    r"|(api|assets|static|report)/.+"
    r"|gradio_api/(upload|startup-events|cancel|reset|queue/(join|data)|heartbeat/[^/]+|file=.+))"
)
_FILE = "/gradio_api/file="
_DATA, _BEAT = "/gradio_api/queue/data", "/gradio_api/heartbeat/"
_JOIN, _CANCEL, _RESET = "/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset"
_JSON_SIZE = 2**16  # bytes: names, no sound
_PATH, _STEP = 2000, 255  # characters of a path, and of a part of it
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a session or an event
_UNANSWERED = 4  # of a session
_AGAIN = {"retry-after": "5"}
_OF_A_FILE = {"path", "url", "orig_name", "size", "mime_type", "is_stream", "meta"}
_KIND = {"_type": "gradio.FileData"}


class PageRoutes:
    """ASGI middleware: refuses what the page does not need, and files that it was not sent.

    What is passed on to gradio's queue is written anew, so that gradio sees nothing but what the
    page sends, and names nothing that there is not.

    Parameters
    ----------
    app
        Gradio's, mounted in ours.
    uploads
        The files that were sent; one that is to be analysed is claimed there.
    sessions
        Of gradio's queue.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads, sessions: Sessions) -> None:
        self._app, self._uploads, self._sessions = app, uploads, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, request = scope["path"], Request(scope, receive)
        if not _OPEN.fullmatch(path) or not self._is_there(path):
            for way, kind in ((_FILE, "file"), (_BEAT, "session")):
                if path.startswith(way):
                    log_line(scope, f"unknown {kind}")
            raise HTTPException(404, "Not Found")
        if scope["method"] == "GET" and path == _DATA:
            session = request.query_params.get("session_hash", "")
            self._check_session(request, session)
            async with self._sessions.listening(session):
                await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and path in {_JOIN, _CANCEL, _RESET}:
            content = await _read(request)
            content = self._join(content) if path == _JOIN else self._event(request, content)
            receive = _again(request, content)
        await self._app(scope, receive, send)

    def _is_there(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._uploads.has(path.removeprefix(_FILE))
        if len(path) > _PATH or not path.isprintable():
            return False
        if path.startswith(_BEAT):
            return _NAME.fullmatch(path.removeprefix(_BEAT)) is not None
        return all(len(step.encode()) <= _STEP for step in path.split("/"))

    def _check_session(self, request: Request, session: str) -> None:
        if not _NAME.fullmatch(session) or not self._sessions.knows(session):
            log_line(request.scope, f"unknown session {session}")
            raise HTTPException(404, "Unknown session.")
        if self._sessions.listens(session):
            raise HTTPException(409, "The session already receives its answers.")

    def _join(self, content: Any) -> dict[str, Any]:
        try:
            files = [item for item in content["data"] if item is not None]
            session, number = content["session_hash"], content["fn_index"]
            wanted = self._sessions.inputs[number]
            fits = type(number) is int and _is_name(session)
        except (LookupError, TypeError):
            raise _malformed() from None
        if not fits:
            raise _malformed()
        if len(files) > 1 or not all(map(_is_file, files)):
            raise HTTPException(403, "The file was not uploaded here.")
        if len(content["data"]) != wanted:
            raise _malformed()
        if self._sessions.unanswered(session) >= _UNANSWERED:
            raise HTTPException(503, "Too many answers are waiting to be fetched.", _AGAIN)
        if not all(self._uploads.claim(item["path"]) for item in files):
            raise HTTPException(403, "The file is unknown, or requested already.")
        return {
            "data": [
                {"path": item["path"], "meta": _KIND} if item else None for item in content["data"]
            ],
            "fn_index": number,
            "session_hash": session,
        }

    def _event(self, request: Request, content: Any) -> dict[str, Any]:
        try:
            event, session, number = (
                content["event_id"],
                content.get("session_hash"),
                content.get("fn_index", 0),
            )
        except (LookupError, TypeError, AttributeError):
            raise _malformed() from None
        if (
            type(number) is not int
            or not _is_name(event)
            or not (session is None or _is_name(session))
        ):
            raise _malformed()
        known = (
            self._sessions.has_event(event)
            if session is None
            else self._sessions.waits_for(session, event)
        )
        if not known:
            log_line(request.scope, f"unknown event {event}")
            raise HTTPException(404, "Unknown event.")
        more = {} if session is None else {"session_hash": session, "fn_index": number}
        return {"event_id": event, **more}


async def _read(request: Request) -> Any:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _JSON_SIZE:
            raise HTTPException(413, "The request is too large.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise _malformed() from None


def _again(request: Request, content: dict[str, Any]) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await request.receive()
        sent = True
        return {"type": "http.request", "body": json.dumps(content).encode(), "more_body": False}

    return again


def _malformed() -> HTTPException:
    return HTTPException(422, "The request is malformed.")


def _is_name(item: Any) -> bool:
    return isinstance(item, str) and _NAME.fullmatch(item) is not None


def _is_file(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.keys() <= _OF_A_FILE
        and item.get("meta") == _KIND
        and all(not isinstance(v, dict | list) for k, v in item.items() if k != "meta")
        and isinstance(item.get("path"), str)
    )
