"""A fair queue of requests, clients in rotation; room for files; limits on both."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial


class FullError(Exception):
    """The queue is full."""


class ChangeSignal:
    """Wakes all who wait for a change."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Report that something has changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Wait for the next change, or for the time to be up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._next.wait()


@dataclass(eq=False)
class _Reservation:
    client: str
    size: int  # in bytes: as large as was said before, or as it has become
    received: int = 0


class Room:
    """Room for files on their way, of which no client can take all.

    Parameters
    ----------
    most
        Bytes that may be there; while it is less, another file is taken.
    share
        Bytes that may be one client's; likewise.
    """

    def __init__(self, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._known: list[_Reservation] = []

    @contextmanager
    def reserve(self, client: str, size: int) -> Iterator[Callable[[int], None]]:
        """Take room for a file of a client, from its first byte until it is deleted.

        Parameters
        ----------
        client
            Who sends it.
        size
            How large it is said to be, in bytes.

        Yields
        ------
        grow
            Notes bytes that have arrived.

        Raises
        ------
        FullError
            Now or by ``grow``, if the client, or all together, have as much as may be.
        """
        mine = _Reservation(client, size)
        self._grow(mine, 0)
        self._known.append(mine)
        try:
            yield partial(self._grow, mine)
        finally:
            self._known.remove(mine)

    def _grow(self, mine: _Reservation, size: int) -> None:
        mine.received += size
        mine.size = max(mine.size, mine.received)
        others = [other for other in self._known if other is not mine]
        own = sum(other.size for other in others if other.client == mine.client)
        if own >= self._share or sum(other.size for other in others) >= self._most:
            raise FullError


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

    Attributes
    ----------
    changes
        Reported whenever the ranks of those who wait change.
    """

    def __init__(self, at_once: int, most: int) -> None:
        self.changes = ChangeSignal()
        self._free, self._most = at_once, most
        self._waiting: OrderedDict[str, deque[tuple[str, asyncio.Future[None]]]] = OrderedDict()
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
    async def turn(self, client: str, name: str = "") -> AsyncIterator[None]:
        """Wait for a turn, and have it; ``rank`` finds the request by its name meanwhile."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(client, name)
        try:
            yield
        finally:
            self._pass_on()

    def rank(self, client: str, name: str) -> int | None:
        """Return how many turns from now a waiting request has its own, from 1.

        Returns
        -------
        rank
            None if it does not wait. Later requests of clients without one come before the further
            requests of those who have several.
        """
        names = [known for known, _ in self._waiting.get(client, ())]
        if name not in names:
            return None
        own, before = names.index(name), True
        rank = 1 + own
        for other, requests in self._waiting.items():
            if other == client:
                before = False
            else:
                rank += min(len(requests), own + before)
        return rank

    async def _wait(self, client: str, name: str) -> None:
        mine = asyncio.get_running_loop().create_future()
        requests = self._waiting.setdefault(client, deque())
        requests.append((name, mine))
        self.changes.notify()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # the turn came as the client went
                self._pass_on()
            if (name, mine) in requests:
                requests.remove((name, mine))
                if not requests:
                    del self._waiting[client]
            self.changes.notify()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            client, requests = self._waiting.popitem(last=False)
            _, mine = requests.popleft()
            if requests:
                self._waiting[client] = requests  # behind the others
            if not mine.done():  # its client has gone, and has not noticed yet
                mine.set_result(None)
                self.changes.notify()
                return
        self._free += 1
