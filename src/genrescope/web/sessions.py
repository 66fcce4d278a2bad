"""Gradio's sessions, kept only while a visitor waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr  # not before it is known where it keeps files

_COMES_S = 10.0  # after it has asked, a page listens for the answer within this


class Sessions:
    """The sessions of gradio's queue.

    By itself gradio keeps every answer: in the state of its session, of which it holds thousands,
    and, where nobody fetches it, among the messages to be sent.

    Parameters
    ----------
    page
        The page; its queue has been set up.

    Attributes
    ----------
    inputs
        How many inputs each of the page's functions has, by its number.
    """

    def __init__(self, page: gr.Blocks) -> None:
        page.state_session_capacity = 1  # no component has a state that must last
        self._page = page
        self._listening: dict[str, asyncio.Event] = {}
        self.inputs = {number: len(function.inputs) for number, function in page.fns.items()}

    @property
    def _queue(self) -> Any:
        return self._page._queue

    def knows(self, session: str) -> bool:
        """Whether a session has asked for something, and is not forgotten."""
        return session in self._queue.pending_messages_per_session

    def waits_for(self, session: str, event: str) -> bool:
        """Whether an event of a session has not been answered."""
        return event in self._queue.pending_event_ids_session.get(session, ())

    def has_event(self, event: str) -> bool:
        """Whether an event of any session is waiting or running."""
        return event in self._queue.event_ids_to_events

    def unanswered(self, session: str) -> int:
        """Count the events whose answer a session has not received."""
        return len(self._queue.pending_event_ids_session.get(session, ()))

    def listens(self, session: str) -> bool:
        """Whether a session's page is connected for its answers."""
        return session in self._listening and self._listening[session].is_set()

    @asynccontextmanager
    async def listening(self, session: str) -> AsyncIterator[None]:
        """Listen for answers; whatever is kept of the session is forgotten afterwards."""
        self._listening.setdefault(session, asyncio.Event()).set()
        try:
            yield
        except BaseException:
            await self._forget(session)
            raise
        else:
            # Unless the page has just asked for more, for which it will listen anew.
            if not self.unanswered(session):
                await self._forget(session)
        finally:
            self._listening.pop(session, None)

    async def awaits(self, session: str | None) -> bool:
        """Whether anybody listens for a session's answer, or will in a moment.

        If not, the session is forgotten, so that an answer which nobody fetches is not kept.
        """
        if session is None:
            return False
        event = self._listening.setdefault(session, asyncio.Event())
        try:
            async with asyncio.timeout(_COMES_S):
                await event.wait()
        except TimeoutError:
            if self.listens(session):
                return True
            self._listening.pop(session, None)
            await self._forget(session)
            return False
        return True

    async def _forget(self, session: str) -> None:
        await self._queue.clean_events(session_hash=session)
        self._queue.pending_event_ids_session.pop(session, None)
        self._queue.pending_messages_per_session.pop(session, None)
        self._page.state_holder.session_data.pop(session, None)
        self._page.state_holder.time_last_used.pop(session, None)
