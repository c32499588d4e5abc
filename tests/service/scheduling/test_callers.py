"""One who asks without end waits for itself, and hardly anybody for it."""

import asyncio
from collections.abc import Callable, Coroutine

import numpy as np
import pytest

from models import Pipeline
from models.heads import Job
from models.text.encoded import Encoded
from service.errors import Overloaded
from service.scheduling.admission import Admission, Bounds
from service.scheduling.callers import Callers
from service.scheduling.costs import Costs, Pace
from service.scheduling.queue import Limits, Queue
from service.scheduling.ticket import Lane, Ticket

COSTS = Costs(fixed_s=0.001, token_s=1e-4, cell_s=0.0)
LANES = pytest.mark.parametrize("lane", list(Lane))


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(work())


@pytest.fixture(scope="module")
def make(classifier_pipeline: Pipeline) -> Callable[..., Ticket]:
    head = classifier_pipeline.find_head("embed")

    def ticket(caller: str, lengths: list[int], lane: Lane = Lane.INTERACTIVE) -> Ticket:
        jobs = [
            Job(head, "", None, Encoded(np.zeros(length, np.int64), np.zeros(length, np.int64)))
            for length in lengths
        ]
        return Ticket(jobs, deadline=1e9, lane=lane, caller=caller)

    return ticket


def make_queue() -> Queue:
    return Queue(COSTS, Limits(max_batch_tokens=512, max_batch_s=0.1), Pace(0.0))


def list_turns(queue: Queue, now: float) -> list[str]:
    """Whose texts are computed, batch by batch."""
    found = []
    while (batch := queue.take(now)) is not None:
        found.append("".join(sorted({ticket.caller for ticket, _ in batch.entries})))
    return found


@LANES
def test_a_light_caller_comes_before_the_backlog_of_a_heavy_one(
    make: Callable[..., Ticket], lane: Lane
) -> None:
    async def work() -> None:
        queue = make_queue()
        for _ in range(200):
            queue.add(make("h", [100], lane), 0.0)
        # One that comes later, while most of that waits.
        for _ in range(3):
            queue.take(0.1)
        queue.add(make("l", [100], lane), 0.1)
        turns = list_turns(queue, 0.1)
        assert "l" in turns[0] or "l" in turns[1]
        assert len(turns) > 30

    run(work)


def test_two_heavy_ones_share(make: Callable[..., Ticket]) -> None:
    """One with four times the requests of the other, and each with more than there is time for."""

    async def work() -> None:
        queue, now = make_queue(), 0.0
        taken = {"a": 0, "b": 0}
        for turn in range(600):
            for _ in range(4):
                queue.add(make("a", [200]), now)
            queue.add(make("b", [200]), now)
            batch = queue.take(now)
            assert batch is not None
            now += batch.predicted_s
            for ticket, _ in batch.entries if turn > 100 else ():
                taken[ticket.caller] += 1
        # All that the lighter one sent, or half.
        assert taken["b"] > 0.4 * sum(taken.values())

    run(work)


def test_alone_it_is_as_without_a_name(make: Callable[..., Ticket]) -> None:
    """What one sends later overtakes its own long texts as ever."""

    async def work() -> None:
        orders = []
        for caller in ("", "a"):
            queue, found = make_queue(), []
            for place, length in enumerate((500, 400, 30, 300, 8, 20, 500, 8)):
                queue.add(make(caller, [length] * 4), 0.001 * place)
            while (batch := queue.take(0.01)) is not None:
                found.append([job.tokens for _, job in batch.entries])
            orders.append(found)
        assert orders[0] == orders[1]

    run(work)


def test_nobody_is_starved(make: Callable[..., Ticket]) -> None:
    """What a heavy caller has waiting is due some time, whoever comes later."""

    async def work() -> None:
        queue, now, taken = make_queue(), 0.0, 0
        for _ in range(50):
            queue.add(make("h", [200]), now)
        for turn in range(400):
            queue.add(make(f"l{turn}", [200]), now)
            batch = queue.take(now)
            assert batch is not None
            now += batch.predicted_s
            taken += sum(ticket.caller == "h" for ticket, _ in batch.entries)
        assert taken == 50

    run(work)


def test_nobody_without_a_name_is_a_caller(make: Callable[..., Ticket]) -> None:
    async def work() -> None:
        queue = make_queue()
        for _ in range(20):
            queue.add(make("", [300]), 0.0)
        queue.add(make("", [300]), 0.5)
        assert queue.begin(Lane.INTERACTIVE, "", 0.7) == 0.7
        assert queue.share_s(Lane.INTERACTIVE, "") == (0.0, 1)

    run(work)


def test_what_was_given_up_counts_no_more(make: Callable[..., Ticket]) -> None:
    async def work() -> None:
        queue = make_queue()
        tickets = [make("h", [100, 200]) for _ in range(30)]
        for ticket in tickets:
            queue.add(ticket, 0.0)
        own, callers = queue.share_s(Lane.INTERACTIVE, "h")
        assert own == pytest.approx(queue.waiting_s(Lane.INTERACTIVE))
        assert callers == 1
        queue.take(0.0)
        for ticket in tickets:
            ticket.dropped = True
            queue.release(ticket)
        assert queue.share_s(Lane.INTERACTIVE, "h") == (0.0, 1)
        assert not queue._lanes[Lane.INTERACTIVE].callers._accounts

    run(work)


def test_who_has_its_share_waiting_gets_in_no_more_and_others_do(
    make: Callable[..., Ticket],
) -> None:
    async def work() -> None:
        pace = Pace(0.0)
        queue = Queue(COSTS, Limits(max_batch_tokens=512, max_batch_s=0.1), pace)
        admission = Admission(queue, pace, Bounds(1.0, 1.0))

        def check(caller: str, deadline: float = 1e6) -> None:
            admission.check(
                Lane.INTERACTIVE, 0.02, deadline=deadline, now=0.0, under_way=0.0, caller=caller
            )

        def fill(caller: str) -> int:
            count = 0
            while True:
                try:
                    check(caller)
                except Overloaded:
                    return count
                queue.add(make(caller, [200]), 0.0)
                count += 1

        first = fill("h")
        assert first > 20
        # A deadline is judged by what comes before its own texts alone.
        check("new", deadline=0.5)
        with pytest.raises(Overloaded, match="is waiting"):
            check("h", deadline=0.5)
        # Without a name it is as full as it is; the next caller has half of it, and so on.
        with pytest.raises(Overloaded, match="together 1 s may wait"):
            check("")
        second = fill("a")
        third = fill("b")
        assert first > second > third > 0
        for number in range(50):
            fill(f"c{number}")
        assert queue.waiting_s(Lane.INTERACTIVE) <= 2.0

    run(work)


def test_accounts_end_with_their_texts() -> None:
    callers = Callers()
    callers.add("a", 2, 1.0)
    callers.add("b", 1, 0.2)
    assert (callers.find_lead("a"), callers.find_lead("b")) == (0.0, 0.8)
    assert (callers.find_lead("c"), callers.find_lead("")) == (1.0, 0.0)
    assert callers.count_with("c") == 3
    callers.remove("a", 1, 0.9)
    assert callers.waiting_s("a") == pytest.approx(0.1)
    assert callers.find_lead("a") == pytest.approx(0.1)
    callers.remove("a", 1, 0.1)
    callers.remove("b", 1, 0.2)
    assert (callers.find_lead("a"), callers.count_with("a")) == (0.0, 1)
    callers.remove("a", 1, 0.5)  # of nobody
