"""The application (page, API, middleware), and the server that runs it."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from genrescope import __version__, system
from genrescope.classifier import Classifier
from genrescope.environment import set_variables
from genrescope.errors import GenrescopeError, InputError
from genrescope.library.similar import Library
from genrescope.web.api import add_routes
from genrescope.web.clients import client_of
from genrescope.web.middleware import LOCAL_NAMES, PatientProtocol, RequestGuard
from genrescope.web.queue import FullError
from genrescope.web.routes import PageRoutes
from genrescope.web.service import Limits, Service
from genrescope.web.temporary_folder import ServerFolder
from genrescope.web.upload import Uploads, receive

_CONNECTIONS = 500
_IDLE_S = 15  # a connection on which nothing is asked
_AGAIN_S = "30"  # until uploads that were never asked for may have been deleted
_LEAVE_S = 10  # for answers on their way when the server ends


def create_app(
    classifier: Classifier | None = None,
    *,
    limits: Limits | None = None,
    library: Library | None = None,
    report: Path | None = None,
    token: str | None = None,
    names: frozenset[str] | None = None,
    framers: tuple[str, ...] = (),
) -> ASGIApp:
    """Create the application: the page at ``/``, the API below ``/api``.

    Parameters
    ----------
    classifier
        By default the one in the package.
    limits
        What a client may ask for.
    library
        Where to look for similar tracks.
    report
        Folder of a study's report, for the page's second tab.
    token
        That clients must know; None admits everyone.
    names
        Host names that requests may use; None allows any. See ``RequestGuard``.
    framers
        Origins, like ``https://huggingface.co``, whose pages may show this one in a frame.

    Returns
    -------
    app
        An ASGI application. Only one may live in a process: it sets where gradio keeps files.

    Raises
    ------
    InputError
        If the report's folder holds none.
    GenrescopeError
        If the token is none that a request can hold.
    """
    limits = limits or Limits()
    if token is not None and not re.fullmatch(r"[!-~]([ -~]*[!-~])?", token):
        raise GenrescopeError("The token must be of ASCII characters, with no blank at an end.")
    if report is not None and not (report / "report.md").is_file():
        remedy = "Give the folder that `genrescope study --out` wrote"
        raise InputError(report, "it holds no report.md", remedy)
    service = Service(classifier or Classifier.default(), limits, library)
    kept = ServerFolder()
    folder = kept.path
    set_variables(
        GRADIO_TEMP_DIR=str(folder),
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_ANALYTICS_MAX_EVENTS="100",  # of which it keeps who asked
    )
    # Reads them as it is imported.
    import gradio as gr  # noqa: PLC0415

    from genrescope.web.page import look, make_page  # noqa: PLC0415

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await anyio.to_thread.run_sync(service.start)
            yield
        finally:
            await anyio.to_thread.run_sync(service.close)
            kept.close()

    app = FastAPI(
        title="genrescope",
        version=__version__,
        description="Music genre classification.",
        lifespan=lifespan,
        docs_url=None,  # their scripts would come from elsewhere
        redoc_url=None,
    )
    room = max(4, limits.inside // 4) * limits.size
    uploads = Uploads(room, room // 4)
    add_routes(app, service, uploads, folder)
    if report is not None:
        _add_figures(app, report / "figures")
    page, sessions = make_page(service, report, uploads)
    _add_upload(app, service, uploads, folder)
    mounted = gr.mount_gradio_app(
        app,
        page,
        path="/",
        show_error=False,
        max_file_size=limits.size,
        ssr_mode=False,
        **look(),
    )
    page.has_launched = True  # or gradio takes any path for one that was uploaded
    return RequestGuard(
        PageRoutes(mounted, uploads, sessions),
        size=limits.size,
        upload_s=limits.upload_s,
        token=token,
        names=names,
        framers=framers,
    )


def serve(
    model: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits | None = None,
    library: Library | None = None,
    report: Path | None = None,
    token: str | None = None,
    framers: tuple[str, ...] = (),
    ready: Callable[[str], None] | None = None,
    browser: bool = False,
) -> None:
    """Serve the page and its API until it is stopped.

    Parameters
    ----------
    model
        A model folder or the hub's ``user/name``; None for the one in the package.
    host
        Address to listen to; others than this machine's own let the network in.
    port
        0 takes one that is free.
    limits, library, report, token, framers
        See ``create_app``.
    ready
        Called with the page's address once the server answers.
    browser
        Whether to open it in a browser.

    Raises
    ------
    GenrescopeError
        If it cannot listen there.
    """
    classifier = Classifier.from_pretrained(model, threads=1) if model else Classifier.default()
    listener = _listen(host, port)
    address = _address(listener, host, token)
    names = LOCAL_NAMES | {host} if is_local(host) else None
    app = create_app(
        classifier,
        limits=limits,
        library=library,
        report=report,
        token=token,
        names=names,
        framers=framers,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                if ready is not None:
                    ready(address)
                if browser:
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if self.force_exit:  # a second Ctrl-C: nobody is waited for, but what is open is closed
                await self.lifespan.shutdown()

    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_LEAVE_S,
    )
    log = logging.getLogger("genrescope.web")
    if not (log.handlers or logging.root.handlers):  # the package itself is silent
        log.addHandler(logging.StreamHandler())
    with listener:
        Server(config).run([listener])


def _add_upload(app: FastAPI, service: Service, uploads: Uploads, folder: Path) -> None:
    # Before gradio's own, which keeps equal files of several visitors in one place, so that the
    # first answer would delete them for all.
    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> list[str]:
        try:
            with service.queue.place(client_of(request.scope)), uploads.hold(request) as hold:
                path = await receive(request, "files", folder, hold)
                uploads.add(path, hold)
        except FullError:
            detail = "Too many files are waiting here; try again later."
            raise HTTPException(503, detail, {"Retry-After": _AGAIN_S}) from None
        return [str(path)]


def _add_figures(app: FastAPI, figures: Path) -> None:
    # Known when the page is made: no name that is asked for is ever put together to a path.
    known = {path.name: path for path in figures.glob("*.png")}

    @app.get("/report/{name}", include_in_schema=False)
    async def figure(name: str) -> Response:
        return FileResponse(known[name]) if name in known else Response(status_code=404)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        try:
            if not system.IS_WINDOWS:  # there, others could take over the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        text = f"The page cannot listen to {host}:{port} ({error.strerror or error})."
        raise GenrescopeError(f"{text} Choose another with --port, or --port 0.") from error
    return listener


def _address(listener: socket.socket, host: str, token: str | None) -> str:
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  compared, not bound
    shown = f"[{shown}]" if ":" in shown else shown
    query = f"/?{urlencode({'token': token})}" if token else "/"
    return f"http://{shown}:{listener.getsockname()[1]}{query}"


def is_local(host: str) -> bool:
    """Return whether an address is one at which only this machine can be asked."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
