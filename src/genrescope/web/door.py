"""What of gradio's own interface is open: as much as the page's script uses, and no more.

Mounted in another application, gradio opens routes that the page has no use for, and takes whatever
path or address a browser names as a file that was uploaded.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrescope.web.upload import Uploads

_OPEN = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|healthz|openapi\.json"
    r"|(api|assets|static|report)/.+"
    r"|gradio_api/(upload|startup-events|cancel|reset|queue/(join|data)|heartbeat/[^/]+|file=.+))"
)
_FILE, _JOIN = "/gradio_api/file=", "/gradio_api/queue/join"
_JOIN_SIZE = 2**16  # bytes: names, no sound
_OF_A_FILE = {"path", "url", "orig_name", "size", "mime_type", "is_stream", "meta"}
_KIND = {"_type": "gradio.FileData"}


class Door:
    """ASGI middleware: refuses what the page does not need, and files that it was not sent.

    Parameters
    ----------
    app
        Gradio's, mounted in ours.
    uploads
        The files that were sent; one that is asked to be heard is claimed there.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http":
            path = scope["path"]
            own = path.removeprefix(_FILE)
            if not _OPEN.fullmatch(path) or (own != path and not self._uploads.has(own)):
                await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)
                return
            if path == _JOIN:
                receive = await self._checked(Request(scope, receive))
        await self._app(scope, receive, send)

    async def _checked(self, request: Request) -> Receive:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _JOIN_SIZE:
                raise HTTPException(413, "The request is too large.")
        try:
            files = [item for item in json.loads(body)["data"] if item is not None]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise HTTPException(422, "The request is not what the page sends.") from None
        if len(files) > 1 or not all(map(self._claimed, files)):
            raise HTTPException(403, "The file was not sent here, or it is asked for again.")
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await request.receive()
            sent = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return again

    def _claimed(self, item: Any) -> bool:
        return (
            isinstance(item, dict)
            and item.keys() <= _OF_A_FILE
            and item.get("meta") == _KIND
            and all(not isinstance(v, dict | list) for k, v in item.items() if k != "meta")
            and isinstance(item.get("path"), str)
            and self._uploads.claim(item["path"])
        )
