"""Middleware: access, size and time limits before a request reaches the application."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import h11
from anyio import CancelScope
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from uvicorn.protocols.http.h11_impl import H11Protocol

from genrescope.web.clients import client_of, log_fault, log_line
from genrescope.web.faults import error_response

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine by which a page that listens to it alone may be asked for."""

_TOKEN_PAGE = (Path(__file__).parent / "static" / "token.html").read_bytes()
_HEAD_S = 10.0  # to receive the head of a request
_PASS, _PASS_S = 2**24, 2.0  # bytes and seconds of a body that nobody wants
_TAKE_S, _TAKE = 10.0, 10_000  # a client takes so many bytes of its answer in so many seconds
_PART = 2**16  # bytes of an answer that are on their way to a client, who may take them slowly
_OPEN = frozenset({"/healthz"})  # without the token
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s/?#@:,\[\]]+)(?::(\d{0,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE)
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
_LOOSE = re.compile(rb"(?<!\r)\n|\n[ \t]")  # a bare line feed, or a folded line
_CLOSE = (b"connection", b"close")
_PORTS = {"http": 80, "https": 443}
_PROGRAMS = "/api/"  # paths that no link leads to
# Nothing from elsewhere, and no code but the page's own files, whatever a page may hold.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class RequestGuard:
    """ASGI middleware that rejects requests before they are processed.

    What a page of another origin makes a browser send is refused with 403, but for links to pages:
    a browser says where a request comes from by ``Origin`` and ``Sec-Fetch-Site``, which no page
    can forge; programs send neither. Another port of the same machine is another origin, too.
    A request that fails is one line in the log.

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
    framers
        Origins whose pages may show this one in a frame, beside its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        size: int,
        upload_s: float,
        token: str | None = None,
        names: frozenset[str] | None = None,
        framers: tuple[str, ...] = (),
    ) -> None:
        self._app, self._size, self._upload_s = app, size, upload_s
        self._token, self._names = token, names
        self._frames = {"document", *(("iframe",) if framers else ())}
        policy = " ".join((_POLICY, *framers)).encode()
        self._headers = [(b"content-security-policy", policy), *_HEADERS]
        if not framers:  # an older header, which cannot name origins
            self._headers.append((b"x-frame-options", b"SAMEORIGIN"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(Headers(scope=scope), receive, self._size, self._upload_s)
        head = scope["method"] == "HEAD"
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                await body.pass_over()
                own = {name for name, _ in message["headers"]}
                more = [header for header in self._headers if header[0] not in own]
                more += [] if body.complete else [_CLOSE]
                message = {**message, "headers": [*message["headers"], *more]}
            elif head:
                message = {**message, "body": b""}
            whole = message.get("body", b"")
            last = max(0, len(whole) - 1) // _PART * _PART
            for start in range(0, last, _PART):
                part = whole[start : start + _PART]
                await send({**message, "body": part, "more_body": True})
            await send({**message, "body": whole[last:]} if last else message)

        # What can be got can be asked for by HEAD; a range that is malformed is none (RFC 9110).
        sent = [one for one in scope["headers"] if one[0] != b"range" or _is_range(one[1])]
        asked = {**scope, "headers": sent, "method": "GET" if head else scope["method"]}
        try:
            answer = self._refusal(asked) or self._app
            await answer(asked, body.receive, guarded)
        except HTTPException as error:
            if started:
                log_line(scope, f"the answer failed: {error.detail}")
            else:
                await error_response(error)(scope, receive, guarded)
        except ClientDisconnect:
            log_line(scope, "the client disconnected")
        except asyncio.CancelledError:  # the server ends, if the client has not left
            if not started:
                await _refuse(503, "The server ends.")(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001  whatever a client has sent, others are answered
            log_fault(error, scope)
            if not started:
                await error_response(error)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._names is not None and _authority(headers.get("host", ""))[0] not in self._names:
            return _refuse(421, f"This server is named {' or '.join(sorted(self._names))}.")
        if (cause := _malformed(headers)) is not None:
            return _refuse(400, cause, {"connection": "close"})
        if self._is_foreign(scope, headers):
            return _refuse(403, "Requests from pages of other sites are not allowed.")
        if self._token is not None and scope["path"] not in _OPEN:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            if self._has_token(query.get("token", "")) and scope["method"] == "GET":
                return self._set_cookie(scope, query)
            if not self._has_token(_sent_token(scope)):
                text = "A token is needed: Authorization: Bearer TOKEN, or ?token=."
                known, accept = {"www-authenticate": "Bearer"}, headers.get("accept", "")
                page = Response(_TOKEN_PAGE, 401, known, "text/html")  # for a person
                return page if "text/html" in accept else _refuse(401, text, known)
        return None

    def _is_foreign(self, scope: Scope, headers: Headers) -> bool:
        sites = {site.strip().lower() for site in headers.getlist("sec-fetch-site")}
        if not sites <= {"same-origin", "none"} and not self._is_link(scope, headers):
            return True
        origins = headers.getlist("origin")
        return len(origins) > 1 or not all(self._is_own(one, scope, headers) for one in origins)

    def _is_link(self, scope: Scope, headers: Headers) -> bool:
        # To a page, in a window of its own.
        return (
            scope["method"] == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") in self._frames
            and not scope["path"].startswith(_PROGRAMS)
        )

    def _is_own(self, origin: str, scope: Scope, headers: Headers) -> bool:
        # A server in front may speak TLS, and ask for this one by another name than the browser
        # did, which it then passes on. A foreign page cannot: that header is not one of those that
        # it may send without asking first.
        found = _ORIGIN.fullmatch(origin.strip())
        if found is None:
            return False
        scheme, (name, port) = found[1].lower(), _authority(found[2])
        forwarded = headers.get("x-forwarded-host")
        in_front = self._names is None or forwarded is not None
        if not name or not (scheme == scope["scheme"] or (in_front and scheme == "https")):
            return False
        usual = _PORTS[scheme]
        asked = [headers.get("host", ""), *(forwarded or "").split(",")[:1]]
        return any(
            (name, port or usual) == (own, own_port or usual)
            for own, own_port in map(_authority, asked)
        )

    def _set_cookie(self, scope: Scope, query: dict[str, str]) -> Response:
        # The browser keeps the token, so that it does not stand in the address for all to see.
        del query["token"]
        address = scope.get("root_path", "") + scope["path"]
        address = "/" + address.lstrip("/\\")  # never to another server
        response = RedirectResponse(f"{address}?{urlencode(query)}" if query else address, 303)
        secure = scope["scheme"] == "https"
        response.set_cookie(
            _cookie_name(scope), self._token or "", httponly=True, samesite="strict", secure=secure
        )
        return response

    def _has_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())


class _Body:
    # A request's body on its way.

    def __init__(self, headers: Headers, receive: Receive, size: int, seconds: float) -> None:
        self._receive, self._size, self._seconds = receive, size, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._length = int(headers.get("content-length", "0"))  # h11 takes no other
        self._received = 0
        # Sends nothing before it may, or too much to be skipped.
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
            text = f"The request was not received within {self._seconds:g} s."
            raise HTTPException(408, text) from error
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
        text = f"The request is larger than {self._size / 1e6:g} MB, the limit of this server."
        return HTTPException(413, text)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which by itself waits without end for a request's head and its answer's end.

    It also refuses a client that holds half of all connections, and ends reads that nobody awaits.
    """

    _reading: CancelScope | None = None
    _waiting: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self.app = self._run
        self._wait()
        most = (self.limit_concurrency or 2**31) // 2
        mine, others = client_of(vars(self)), map(client_of, map(vars, self.connections))
        if sum(other == mine for other in others) > most:
            self._refuse()

    def pause_writing(self) -> None:
        """Wait for the client to take what it was sent."""
        super().pause_writing()
        self._check_taken(2**62)

    def resume_writing(self) -> None:
        """Wait no more."""
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()

    def data_received(self, data: bytes) -> None:
        """Wait on while a head is incomplete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            if self._waiting is None and self.conn.trailing_data[0]:
                self._wait()
        else:
            self._stop_waiting()

    def handle_events(self) -> None:
        """Refuse a head whose end, or lines, another server in front may see elsewhere."""
        head = self.conn.trailing_data[0].partition(b"\r\n\r\n")[0]
        if self.conn.their_state is h11.IDLE and _LOOSE.search(head):
            self.logger.warning(
                "Invalid HTTP request received: a line of its head is folded or lacks CR LF."
            )
            self.send_400_response(
                "Every line of a head must end with CR LF; folded lines are refused."
            )
        else:
            super().handle_events()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; or hang up, where an answer has begun."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)
        if self._reading is not None:
            self._reading.cancel()

    def shutdown(self) -> None:
        """Refuse reads that are not answered yet: the server would wait for them to end."""
        super().shutdown()
        if self._reading is not None and not self.cycle.response_started:
            self._refuse()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not the task's own cancel: that would leave threads behind, which this waits for.
        with CancelScope() as running:
            self._reading = running if scope["method"] in {"GET", "HEAD"} else None
            await self.config.loaded_app(scope, receive, send)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_S, self._refuse, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _check_taken(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < _TAKE:
            self.transport.abort()
        else:
            self._taking = self.loop.call_later(_TAKE_S, self._check_taken, left)

    def _unsupported_upgrade_warning(self) -> None:
        self.logger.warning("Unsupported upgrade request.")

    def _refuse(self, status: bytes = b"503 Service Unavailable\r\nretry-after: 5") -> None:
        answer = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def _is_range(text: bytes) -> bool:
    # A single one; several at once are sent whole.
    found = _RANGE.fullmatch(text)
    if found is None or found[1] == found[2] == b"":
        return False
    return not (found[1] and found[2]) or int(found[1]) <= int(found[2])


def _authority(text: str) -> tuple[str, int]:
    # Name or address, without brackets; port or 0. ("", 0) if it is malformed.
    found = _AUTHORITY.fullmatch(text.strip())
    return (found[1].strip("[]").lower(), int(found[2] or 0)) if found else ("", 0)


def _malformed(headers: Headers) -> str | None:
    if "transfer-encoding" in headers and "content-length" in headers:
        # A server in front may go by the other of the two, and take the rest for a request.
        return "A request has Content-Length or Transfer-Encoding, not both."
    hosts = headers.get("x-forwarded-host", "localhost").split(",")
    schemes = headers.get("x-forwarded-proto", "http").split(",")
    known = {scheme.strip().lower() for scheme in schemes} <= {"http", "https", "ws", "wss"}
    if known and all(_authority(host)[0] for host in hosts):
        return None
    return "X-Forwarded-Host or X-Forwarded-Proto is malformed."


def _cookie_name(scope: Scope) -> str:
    # Of this server alone: a browser sends a host's cookies to all of its ports.
    return f"genrescope_token_{_authority(Headers(scope=scope).get('host', ''))[1]}"


def _sent_token(scope: Scope) -> str:
    sent = HTTPConnection(scope)
    kind, _, text = sent.headers.get("authorization", "").partition(" ")
    return text.strip() if kind.lower() == "bearer" else sent.cookies.get(_cookie_name(scope), "")


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return error_response(HTTPException(status, detail, headers))
