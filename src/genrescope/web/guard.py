"""What stands before the application: who may ask, how much they may send and how slowly."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import h11
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine by which a page that listens to it alone may be asked for."""

_COOKIE = "genrescope_token"
_HEAD_S = 10.0  # to receive the head of a request
_PASS, _PASS_S = 2**24, 2.0  # bytes and seconds of a body that nobody wants
_OPEN = frozenset({"/healthz"})  # without the token
# Nothing from elsewhere, whatever a page may hold. Gradio's code needs the two unsafe words.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI middleware that refuses requests before anything is made of them.

    Parameters
    ----------
    app
        What it stands before.
    size
        Of a request's body, in bytes; more is refused with 413.
    upload_s
        To receive a body, in s; longer is refused with 408.
    token
        That clients must know, else 401: as ``Authorization: Bearer``, or ``?token=``, which a
        browser keeps in a cookie. None lets everyone in.
    names
        Of the server, one of which a request must ask for, else 421: keeps a foreign page from
        reaching a server of this machine under a name of its own. None takes any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        size: int,
        upload_s: float,
        token: str | None = None,
        names: frozenset[str] | None = None,
    ) -> None:
        self._app, self._size, self._upload_s = app, size, upload_s
        self._token, self._names = token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, self._size, self._upload_s)
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                await body.pass_over()
                more = _HEADERS if body.complete else (*_HEADERS, (b"connection", b"close"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            answer = self._refusal(scope) or self._app
            await answer(scope, body.receive, guarded)
        except HTTPException as error:
            if started:
                raise
            await _refuse(error.status_code, error.detail)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._names is not None and _host(headers) not in self._names:
            return _refuse(421, f"This server is asked for by {' or '.join(sorted(self._names))}.")
        if self._token is not None and scope["path"] not in _OPEN:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            if self._knows(query.get("token", "")) and scope["method"] == "GET":
                return self._welcome(scope, query)
            if not self._knows(_told(headers)):
                return _refuse(401, "A token is needed: Authorization: Bearer TOKEN, or ?token=.")
        return None

    def _welcome(self, scope: Scope, query: dict[str, str]) -> Response:
        # The browser keeps the token, so that it does not stand in the address for all to see.
        del query["token"]
        address = scope.get("root_path", "") + scope["path"]
        address = "/" + address.lstrip("/\\")  # never to another server
        response = RedirectResponse(f"{address}?{urlencode(query)}" if query else address, 303)
        secure = scope["scheme"] == "https"
        response.set_cookie(
            _COOKIE, self._token or "", httponly=True, samesite="strict", secure=secure
        )
        return response

    def _knows(self, told: str) -> bool:
        return hmac.compare_digest(told.encode(), (self._token or "").encode())


class _Body:
    # A request's body on its way.

    def __init__(self, headers: Headers, receive: Receive, size: int, seconds: float) -> None:
        self._receive, self._size, self._seconds = receive, size, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._length = int(headers.get("content-length", "0"))  # h11 takes no other
        self._received = 0
        # Sends nothing until it is told to, or too much to be passed over.
        self._stays_away = "expect" in headers or self._length > size
        self.complete = not self._length and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        if self.complete:  # what follows is only the client's leave
            return await self._receive()
        if self._length > self._size:
            raise self._too_large()
        self._stays_away = False
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            told = f"The request took longer than {self._seconds:g} s to arrive."
            raise HTTPException(408, told) from error
        self._received += len(message.get("body", b""))
        if self._received > self._size:
            raise self._too_large()
        self.complete = not message.get("more_body", False)
        return message

    async def pass_over(self) -> None:
        """Take in what is left, if it is little and comes at once.

        A client that is still sending when the connection closes does not get to see the answer.
        """
        passed = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_PASS_S):
                while not (self.complete or self._stays_away) and passed < _PASS:
                    message = await self._receive()
                    passed += len(message.get("body", b""))
                    self.complete = not message.get("more_body", False)

    def _too_large(self) -> HTTPException:
        told = f"The request is larger than {self._size / 1e6:g} MB, the most that is taken here."
        return HTTPException(413, told)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which by itself waits without end for the head of a request."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on while a head is incomplete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            if self._waiting is None and self.conn.trailing_data[0]:
                self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_S, self._leave)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _leave(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()


def _host(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _told(headers: Headers) -> str:
    kind, _, told = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return told.strip()
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _refuse(status: int, told: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"detail": told}, status, headers)
