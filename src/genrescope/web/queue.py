"""A fair queue: a number of requests at a time, clients in rotation, a limit on those waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class FullError(Exception):
    """The queue is full."""


class FairQueue:
    """A queue in which a client with many requests does not keep out one with a single request.

    Clients take turns in rotation; the requests of one are answered in their order. For one event
    loop.

    Parameters
    ----------
    at_once
        How many have their turn at a time.
    most
        How many may be inside: those who bring their request, wait or have their turn. A quarter of
        the places is never given to the same client as the rest.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self._free, self._most = at_once, most
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._of_client: Counter[str] = Counter()

    @property
    def inside(self) -> int:
        """How many there are."""
        return self._of_client.total()

    @contextmanager
    def place(self, client: str = "") -> Iterator[None]:
        """Stay inside.

        Raises
        ------
        FullError
            If there is no place, or none for this client.
        """
        if self.inside >= self._most or self._of_client[client] >= self._most - self._most // 4:
            raise FullError
        self._of_client[client] += 1
        try:
            yield
        finally:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]

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
