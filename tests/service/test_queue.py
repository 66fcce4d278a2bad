"""Turns: how many at a time, whose next, who is kept out."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrescope.service.queue import FairQueue, FullError


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_client_with_many_requests_does_not_keep_out_one_with_a_single_request() -> None:
    order: list[str] = []

    async def ask(queue: FairQueue, client: str, name: str) -> None:
        async with queue.turn(client):
            order.append(name)
            await asyncio.sleep(0)

    async def main() -> None:
        queue = FairQueue(1, 100)
        async with asyncio.TaskGroup() as group:
            for i in range(10):
                group.create_task(ask(queue, "greedy", f"greedy {i}"))
            await asyncio.sleep(0)
            group.create_task(ask(queue, "modest", "modest"))

    asyncio.run(main())
    assert order.index("modest") <= 3  # those whose turn it was when it came, and one more
    assert [name for name in order if name != "modest"] == [f"greedy {i}" for i in range(10)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12))
def test_a_rank_is_the_number_of_turns_until_ones_own(requests: list[tuple[str, bool]]) -> None:
    async def main() -> None:
        queue, order = FairQueue(1, 100), []

        async def ask(client: str, name: str) -> None:
            async with queue.turn(client, name):
                order.append(name)

        async with queue.turn("first"):
            tasks = [
                (asyncio.create_task(ask(client, str(i))), leaves)
                for i, (client, leaves) in enumerate(requests)
            ]
            await settle()
            for task, leaves in tasks:
                if leaves:
                    task.cancel()
            await settle()
            found = {str(i): queue.rank(client, str(i)) for i, (client, _) in enumerate(requests)}
        for task, _ in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert [name for name, rank in found.items() if rank is None] == [
            str(i) for i, (_, leaves) in enumerate(requests) if leaves
        ]
        assert [found[name] for name in order] == list(range(1, len(order) + 1))

    asyncio.run(main())


def test_who_finds_no_place_is_refused_and_a_place_is_free_again() -> None:
    queue = FairQueue(1, 2)
    with queue.place(), queue.place(), pytest.raises(FullError), queue.place():
        pass
    with queue.place():
        assert queue.inside == 1
    assert queue.inside == 0


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=25),
)
def test_never_too_many_at_a_time_and_no_turn_is_lost(
    at_once: int, requests: list[tuple[str, bool]]
) -> None:
    most = served = 0

    async def main() -> None:
        nonlocal most, served
        queue, now = FairQueue(at_once, 100), 0

        async def ask(client: str) -> None:
            nonlocal most, served, now
            async with queue.turn(client):
                now += 1
                most = max(most, now)
                try:
                    await asyncio.sleep(0)
                finally:
                    now -= 1
                served += 1

        tasks = [(asyncio.create_task(ask(client)), leaves) for client, leaves in requests]
        await asyncio.sleep(0)
        for task, leaves in tasks:
            if leaves:
                task.cancel()
        for task, _ in tasks:
            with suppress(asyncio.CancelledError):
                await task
        # All turns are there again, anyone who left when.
        async with asyncio.timeout(1):
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(ask("last"))

    asyncio.run(main())
    assert most <= at_once
    assert served >= at_once + sum(not leaves for _, leaves in requests)


def test_a_turn_that_comes_as_its_client_goes_is_passed_on() -> None:
    async def main() -> bool:
        queue = FairQueue(1, 10)
        first = queue.turn("a")
        await first.__aenter__()
        second = asyncio.create_task(queue.turn("b").__aenter__())
        await settle()
        await first.__aexit__(None, None, None)  # gives the turn to b, who has not noticed yet
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        async with asyncio.timeout(1), queue.turn("c"):
            return True

    assert asyncio.run(main())
