"""The application (page, API, middleware), and the server that runs it."""

from __future__ import annotations

import asyncio
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
from fastapi import FastAPI
from starlette.types import ASGIApp

from genrescope import __version__
from genrescope.classifier import Classifier
from genrescope.errors import GenrescopeError
from genrescope.library.similar import Library
from genrescope.service.answer import AnswerMaker
from genrescope.service.jobs import ServerJobs
from genrescope.service.listener import is_local, listen
from genrescope.service.queue import Room
from genrescope.service.service import Limits, Service
from genrescope.service.temporary_folder import ServerFolder
from genrescope.web import api
from genrescope.web.answers import answer_routes
from genrescope.web.faults import add_error_handlers, job_words
from genrescope.web.library import library_routes
from genrescope.web.middleware import LOCAL_NAMES, PatientProtocol, RequestGuard
from genrescope.web.page import WebPage
from genrescope.web.review import review_routes
from genrescope.web.upload import Uploads

_CONNECTIONS = 500
_CHANGES = 8  # of tags: plans, and what is applied or undone; they wait for each other
_IDLE_S = 15  # a connection on which nothing is asked
_LEAVE_S = 10  # for answers on their way when the server ends


def create_app(
    classifier: Classifier | None = None,
    *,
    limits: Limits | None = None,
    library: Library | None = None,
    journal: Path | None = None,
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
    journal
        Of changes to the library's tags; None lets nobody change them. Needs a token, or names of
        this machine alone, and no framers: a page around this one could make its visitor press
        what writes.
    report
        Folder of a study's report, to be shown.
    token
        That clients must know; None admits everyone.
    names
        Host names that requests may use; None allows any. See ``RequestGuard``.
    framers
        Origins, like ``https://huggingface.co``, whose pages may show this one in a frame.

    Returns
    -------
    app
        An ASGI application.

    Raises
    ------
    InputError
        If the report's folder holds none.
    GenrescopeError
        If the token is none that a request can hold, or others could change tags.
    """
    limits = limits or Limits()
    _check_writing(journal, token, names, framers)
    if token is not None and not re.fullmatch(r"[!-~]([ -~]*[!-~])?", token):
        raise GenrescopeError("The token must be of ASCII characters, with no blank at an end.")
    service = Service(classifier or Classifier.default(), limits, library)
    kept = ServerFolder()
    keep = limits.keep_s, 1e6 * limits.keep_megabytes
    jobs = ServerJobs(service.queue, kept.path / "answers", *keep, job_words)
    changes = ServerJobs(service.queue, kept.path / "changes", *keep, job_words, _CHANGES)
    answers = AnswerMaker(service, jobs)
    most = max(4, limits.inside // 4) * limits.size
    uploads = Uploads(kept.path / "uploads", Room(most, most // 4))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = [asyncio.create_task(kind.sweep()) for kind in (jobs, changes)]
        try:
            await anyio.to_thread.run_sync(service.start)
            page.begin_example()
            yield
        finally:
            for task in sweeping:
                task.cancel()
            await asyncio.gather(jobs.close(), changes.close())
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
    page = WebPage(service, answers, report, writing=journal is not None)
    app.include_router(api.make_router(service, uploads))
    app.include_router(answer_routes(answers, uploads))
    page.add_routes(app)
    if library is not None:
        app.include_router(library_routes(library, kept.path, is_local=names is not None))
        if journal is not None:
            app.include_router(review_routes(library, kept.path, journal, changes))
    add_error_handlers(app)
    return RequestGuard(
        app,
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
    journal: Path | None = None,
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
    limits, library, journal, report, token, framers
        See ``create_app``.
    ready
        Called with the page's address once the server answers.
    browser
        Whether to open it in a browser.

    Raises
    ------
    GenrescopeError
        If it cannot listen there, or as of ``create_app``.
    """
    names = LOCAL_NAMES | {host} if is_local(host) else None
    _check_writing(journal, token, names, framers)  # before anything can connect
    classifier = Classifier.from_pretrained(model, threads=1) if model else Classifier.default()
    listener = listen(host, port)
    address = _address(listener, host, token)
    app = create_app(
        classifier,
        limits=limits,
        library=library,
        journal=journal,
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


def _check_writing(
    journal: Path | None,
    token: str | None,
    names: frozenset[str] | None,
    framers: tuple[str, ...],
) -> None:
    if journal is not None and ((not token and names is None) or framers):
        text = "Tags may be changed from this machine alone, or with a token, and in no frame."
        raise GenrescopeError(f"{text} Set GENRESCOPE_TOKEN, or leave out --host.")


def _address(listener: socket.socket, host: str, token: str | None) -> str:
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  compared, not bound
    shown = f"[{shown}]" if ":" in shown else shown
    query = f"/?{urlencode({'token': token})}" if token else "/"
    return f"http://{shown}:{listener.getsockname()[1]}{query}"
