"""Whose turn it is: so many at a time, clients in rotation, and not too many waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class FullError(Exception):
    """There are as many inside as may be."""


class Turns:
    """A queue in which a client with many requests does not keep out one with a single request.

    Clients take turns in rotation; the requests of one are answered in their order. For one event
    loop.

    Parameters
    ----------
    at_once
        How many have their turn at a time.
    most
        How many may be inside: those who bring their request, wait or have their turn.

    Attributes
    ----------
    inside
        How many there are.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._free, self._most = at_once, most
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.inside = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Stay inside.

        Raises
        ------
        FullError
            If there is no place.
        """
        if self.inside >= self._most:
            raise FullError
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, client: str) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn came as the client went
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, requests = self._waiting.popitem(last=False)
            mine = requests.popleft()
            if requests:
                self._waiting[client] = requests  # behind the others
            if not mine.done():
                mine.set_result(None)
                return
        self._free += 1
