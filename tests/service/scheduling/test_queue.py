"""Which texts are computed next, in a time that the tests make themselves."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from models import Pipeline
from models.heads import Job
from models.text.encoded import Encoded
from service.errors import DeadlinePassed
from service.scheduling.costs import Costs, Pace
from service.scheduling.queue import Batch, Limits, Queue
from service.scheduling.ticket import Lane, Ticket

# Of MiniLM on two cores, about.
COSTS = Costs(fixed_s=0.001, token_s=8e-5, cell_s=3e-8)
LIMITS = Limits(max_batch_tokens=512, max_batch_s=0.1, overtaking=2.0)
NEVER = float("inf")

AddTicket = Callable[..., Ticket]


@pytest.fixture
def make(pretraining: Pipeline) -> Callable[..., Ticket]:
    """Makes a ticket of texts of these lengths in tokens. To be called in an event loop."""
    head = pretraining.find_head("embed")

    def make_ticket(
        *lengths: int, lane: Lane = Lane.INTERACTIVE, deadline: float = NEVER
    ) -> Ticket:
        jobs = [
            Job(head, place, None, Encoded(np.zeros(length, np.int64), np.zeros(length, np.int64)))
            for place, length in enumerate(lengths)
        ]
        return Ticket(jobs, deadline=deadline, lane=lane)

    return make_ticket


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def make_queue(limits: Limits = LIMITS, costs: Costs = COSTS) -> Queue:
    return Queue(costs, limits, Pace(0.0))


def drain(queue: Queue, now: float = 0.0) -> Iterator[Batch]:
    """Batch after batch, each beginning when the last has taken what was predicted."""
    while (batch := queue.take(now)) is not None:
        yield batch
        now += batch.predicted_s


def lengths(batch: Batch) -> list[int]:
    return [job.tokens for _, job in batch.entries]


def test_every_text_is_computed_once(make: AddTicket) -> None:
    async def scene() -> None:
        chance = random.Random(3)
        queue = make_queue()
        tickets = []
        for place in range(300):
            lane = chance.choice(list(Lane))
            texts = [round(2 ** chance.uniform(1, 9)) for _ in range(chance.randint(1, 40))]
            tickets.append(make(*texts, lane=lane))
            queue.add(tickets[-1], place / 1000)
        assert queue.texts == sum(len(ticket.jobs) for ticket in tickets)
        batches = list(drain(queue, 1.0))
        done = Counter(id(job) for batch in batches for _, job in batch.entries)
        assert done == Counter(id(job) for ticket in tickets for job in ticket.jobs)
        assert all(sum(lengths(batch)) == batch.tokens for batch in batches)
        assert all(batch.tokens <= 512 or len(batch.entries) == 1 for batch in batches)
        assert all(ticket.waiting == 0 for ticket in tickets)
        assert queue.texts == 0
        assert queue.waiting_s(Lane.INTERACTIVE) == queue.waiting_s(Lane.BULK) == 0

    play(scene)


def test_a_batch_keeps_to_its_time(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue(Limits(max_batch_tokens=10_000, max_batch_s=0.01))
        queue.add(make(*[16] * 200), 0.0)
        queue.add(make(500), 0.0)
        batches = list(drain(queue))
        assert all(each.predicted_s <= 0.01 or len(each.entries) == 1 for each in batches)
        # And uses most of it.
        full = [each for each in batches if len(each.entries) > 1]
        assert np.median([each.predicted_s for each in full]) > 0.005

    play(scene)


def test_a_batch_keeps_to_its_time_on_a_slow_machine(make: AddTicket) -> None:
    async def scene() -> None:
        pace = Pace(0.0)
        for _ in range(200):
            pace.learn(0.01, 0.05)
        queue = Queue(COSTS, Limits(max_batch_tokens=10_000, max_batch_s=0.05), pace)
        queue.add(make(*[16] * 200), 0.0)
        assert all(batch.predicted_s <= 0.0101 for batch in drain(queue))

    play(scene)


def test_short_texts_go_together_and_a_long_one_is_not_in_their_way(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        queue.add(make(256), 0.0)
        for _ in range(20):
            queue.add(make(8), 0.001)
        batches = [lengths(batch) for batch in drain(queue)]
        assert batches[-1] == [256]
        assert [length for batch in batches[:-1] for length in batch] == [8] * 20
        assert len(batches) <= 7

    play(scene)


def test_no_batch_pays_for_the_width_of_a_long_text(make: AddTicket) -> None:
    """The cells that attention sees of short texts in wide rows cost more than they save."""

    async def scene() -> None:
        queue = make_queue(costs=Costs(fixed_s=0.001, token_s=8e-5, cell_s=1e-6))
        for _ in range(10):
            queue.add(make(16), 0.0)
            queue.add(make(256), 0.0)
        for batch in drain(queue):
            assert len(set(lengths(batch))) == 1

    play(scene)


def test_a_busy_trunk_is_given_larger_batches(make: AddTicket) -> None:
    """What a batch costs beside its texts is then paid by all who come."""

    async def count_batches(busy: float) -> int:
        pace = Pace(0.0)
        for turn in range(100):
            pace.work(turn, turn + busy, interactive=True)
        queue = Queue(COSTS, LIMITS, pace)
        for _ in range(16):
            queue.add(make(16), 100.0)
        return len(list(drain(queue, 100.0)))

    async def scene() -> None:
        idle, full = await count_batches(0.0), await count_batches(1.0)
        assert full == 1
        assert idle > 2

    play(scene)


def test_a_long_text_is_overtaken_for_a_bounded_time(make: AddTicket) -> None:
    """However many short texts come: those that come after its time wait for it."""

    async def scene() -> None:
        queue = make_queue()
        cost = queue.work_s(256)
        long = make(256)
        queue.add(long, 0.0)
        now, started, overtaken = 0.0, None, 0
        # More short texts than can be computed, for ever.
        for turn in range(10_000):
            queue.add(make(*[8] * 30), now)
            batch = queue.take(now)
            assert batch is not None
            if any(ticket is long for ticket, _ in batch.entries):
                started = now
                break
            overtaken = turn + 1
            now += batch.predicted_s
        assert started is not None
        # Its time, and the batch under way by then.
        assert started <= LIMITS.overtaking * cost + LIMITS.max_batch_s
        # It was overtaken, though: that is what keeps it out of the way.
        assert overtaken > 1

    play(scene)


def test_the_text_that_is_due_first_is_in_the_next_batch(make: AddTicket) -> None:
    """The bound on overtaking, over random arrivals: every batch begins with what is due first."""

    async def scene() -> None:
        chance = random.Random(11)
        queue = make_queue()
        due: dict[int, float] = {}
        now = 0.0
        for _ in range(2_000):
            if chance.random() < 0.6:
                ticket = make(round(2 ** chance.uniform(1, 9)))
                due[id(ticket)] = now + LIMITS.overtaking * queue.work_s(ticket.jobs[0].tokens)
                queue.add(ticket, now)
            elif (batch := queue.take(now)) is not None:
                first = min(due.values())
                taken = [due.pop(id(ticket)) for ticket, _ in batch.entries]
                # Equal lengths of a class share their times.
                assert min(taken) == pytest.approx(first)
                now += batch.predicted_s

    play(scene)


def test_without_overtaking_the_order_is_that_of_arrival(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue(Limits(max_batch_tokens=512, max_batch_s=0.1, overtaking=0.0))
        tickets = [make(length) for length in (256, 8, 300, 16)]
        for place, ticket in enumerate(tickets):
            queue.add(ticket, place / 10)
        firsts = [batch.entries[0][0] for batch in drain(queue, 1.0)]
        assert firsts == [ticket for ticket in tickets if ticket in firsts]
        assert firsts[0] is tickets[0]

    play(scene)


def test_a_large_request_does_not_hold_up_a_small_one(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        queue.add(make(*[64] * 1000), 0.0)
        now = 0.0
        for batch in drain(queue):
            now += batch.predicted_s
            if now > 0.2:
                break
        small = make(64)
        queue.add(small, now)
        first = queue.take(now)
        assert first is not None
        assert small in [ticket for ticket, _ in first.entries]

    play(scene)


def test_bulk_waits_for_interactive_and_uses_what_is_left(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        queue.add(make(*[32] * 64, lane=Lane.BULK), 0.0)
        first = queue.take(0.0)
        assert first is not None
        assert first.lane is Lane.BULK
        # An interactive text waits for half as long at most as a batch may take.
        assert first.predicted_s <= LIMITS.max_batch_s / 2
        queue.add(make(32), 0.01)
        assert [batch.lane for batch in drain(queue)][:2] == [Lane.INTERACTIVE, Lane.BULK]

    play(scene)


@pytest.mark.parametrize("requests", [1, 40])
def test_bulk_gets_its_share_of_a_full_trunk(make: AddTicket, requests: int) -> None:
    """However many bulk requests there are, an eighth of the time is theirs, and no more."""

    async def scene() -> None:
        queue = make_queue()
        for _ in range(requests):
            queue.add(make(*[32] * (4_000 // requests), lane=Lane.BULK), 0.0)
        spent = Counter[Lane]()
        now = 0.0
        while now < 5.0:
            while queue.waiting_s(Lane.INTERACTIVE) < 0.2:
                queue.add(make(32), now)
            batch = queue.take(now)
            assert batch is not None
            spent[batch.lane] += batch.predicted_s
            now += batch.predicted_s
        assert spent[Lane.BULK] / now == pytest.approx(0.125, abs=0.02)

    play(scene)


def test_bulk_owes_nothing_for_the_time_when_it_was_alone(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        queue.add(make(*[32] * 2_000, lane=Lane.BULK), 0.0)
        now = 0.0
        while now < 2.0:
            batch = queue.take(now)
            assert batch is not None
            now += batch.predicted_s
        spent = Counter[Lane]()
        began = now
        while now < began + 1.5:
            while queue.waiting_s(Lane.INTERACTIVE) < 0.2:
                queue.add(make(32), now)
            batch = queue.take(now)
            assert batch is not None
            spent[batch.lane] += batch.predicted_s
            now += batch.predicted_s
        assert spent[Lane.BULK] > 0.05

    play(scene)


def test_a_place_that_is_given_up_is_free_at_once(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        gone, stays = make(*[8] * 100), make(8)
        queue.add(gone, 0.0)
        queue.add(stays, 0.0)
        gone.dropped = True
        queue.release(gone)
        assert queue.texts == 1
        assert queue.waiting_s(Lane.INTERACTIVE) == pytest.approx(queue.work_s(8))
        # Once more does no harm.
        queue.release(gone)
        assert queue.texts == 1
        batch = queue.take(0.0)
        assert batch is not None
        assert [ticket for ticket, _ in batch.entries] == [stays]
        assert queue.take(0.0) is None

    play(scene)


def test_what_was_given_up_does_not_pile_up(make: AddTicket) -> None:
    """Clients that come and leave for ever, while nothing is computed."""

    async def scene() -> None:
        queue = make_queue()
        queue.add(make(8), 0.0)
        for _ in range(5_000):
            ticket = make(8, 16)
            queue.add(ticket, 0.0)
            ticket.dropped = True
            queue.release(ticket)
        kept = sum(
            len(each.heap) for lane in queue._lanes.values() for each in lane.classes.values()
        )
        assert kept < 3_000
        assert queue.texts == 1
        batch = queue.take(0.0)
        assert batch is not None
        assert lengths(batch) == [8]
        assert queue.take(0.0) is None

    play(scene)


def test_what_is_late_is_not_computed(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        late, patient = make(8, 8, deadline=1.0), make(64, deadline=3.0)
        queue.add(late, 0.0)
        queue.add(patient, 0.0)
        batch = queue.take(2.0)
        assert batch is not None
        assert [ticket for ticket, _ in batch.entries] == [patient]
        assert queue.late == [late]
        assert isinstance(late.error, DeadlinePassed)
        assert queue.take(2.0) is None
        assert queue.texts == 0
        assert queue.waiting_s(Lane.INTERACTIVE) == 0

    play(scene)


def test_a_request_that_is_late_for_its_long_text_alone(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        for round_ in range(3):
            late = make(8, 256, 8, deadline=round_ + 0.01)
            queue.add(late, round_)
            assert queue.take(round_) is None
            assert (queue.late, late.waiting, queue.texts) == ([late], 0, 0)
            queue.late = []
        queue.add(make(8, 256, 8, deadline=4.01), 4.0)
        queue.add(make(8, 300), 4.0)
        assert [lengths(batch) for batch in drain(queue, 4.0)] == [[8], [300]]
        assert queue.texts == 0
        assert queue.waiting_s(Lane.INTERACTIVE) == 0.0

    play(scene)


def test_a_large_request_that_is_late_takes_nobody_with_it(make: AddTicket) -> None:
    """So large that its texts are swept out while they are looked at."""

    async def scene() -> None:
        queue = make_queue()
        late = make(*[8] * 1100, deadline=1e-4)
        queue.add(late, 0.0)
        innocent = make(8)
        queue.add(innocent, 0.0)
        batch = queue.take(0.0)
        assert batch is not None
        assert [ticket for ticket, _ in batch.entries] == [innocent]
        assert (queue.late, queue.texts) == ([late], 0)
        queue.add(make(*[8] * 1100, deadline=1e-4), 0.0)
        assert queue.take(0.0) is None
        assert queue.texts == 0

    play(scene)


def test_nothing_is_lost_or_counted_twice_whoever_is_late_or_leaves(make: AddTicket) -> None:
    async def scene(seed: int) -> None:
        chance = random.Random(seed)
        queue = make_queue()
        living: list[Ticket] = []
        now, taken = 0.0, Counter[int]()
        for _ in range(400):
            now += chance.expovariate(20.0)
            texts = [round(2 ** chance.uniform(1, 9)) for _ in range(chance.choice([1, 3, 400]))]
            patience_s = chance.choice([0.005, 0.1, 5.0, NEVER])
            ticket = make(*texts, lane=chance.choice(list(Lane)), deadline=now + patience_s)
            living.append(ticket)
            queue.add(ticket, now)
            if chance.random() < 0.2:
                gone = chance.choice(living)
                gone.dropped = True
                queue.release(gone)
            batch = queue.take(now)
            for owner, job in batch.entries if batch else ():
                assert not owner.over
                taken[id(job)] += 1
            assert queue.texts == sum(each.waiting for each in living)
            for lane in Lane:
                assert queue.ahead_s(lane, NEVER) == pytest.approx(queue.waiting_s(lane), abs=1e-6)
            assert min(each.waiting for each in living) >= 0
        for batch in drain(queue, now):
            taken.update(id(job) for _, job in batch.entries)
        assert max(taken.values()) == 1
        assert queue.texts == 0
        assert all(queue.ahead_s(lane, NEVER) == 0.0 for lane in Lane)
        for ticket in living:
            if not ticket.over:
                assert all(taken[id(job)] for job in ticket.jobs)

    for seed in range(5):
        play(lambda seed=seed: scene(seed))


def test_a_lane_that_is_only_late_does_not_hide_the_other(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        queue.add(make(8, deadline=1.0), 0.0)
        bulk = make(8, lane=Lane.BULK)
        queue.add(bulk, 0.0)
        batch = queue.take(2.0)
        assert batch is not None
        assert batch.entries[0][0] is bulk

    play(scene)


def test_what_is_put_back_is_computed_alone(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        again = make(8, 8)
        queue.add(make(8), 0.0)
        queue.put_back((again, job) for job in again.jobs)
        assert queue.texts == 3
        batches = list(drain(queue))
        assert [len(batch.entries) for batch in batches] == [1, 1, 1]
        assert [batch.entries[0][0] for batch in batches[:2]] == [again, again]

    play(scene)


def test_clearing_finds_every_ticket(make: AddTicket) -> None:
    async def scene() -> None:
        queue = make_queue()
        tickets = [make(8, 100), make(8, lane=Lane.BULK), make(9)]
        for ticket in tickets[:2]:
            queue.add(ticket, 0.0)
        queue.put_back([(tickets[2], tickets[2].jobs[0])])
        assert {id(ticket) for ticket in queue.clear()} == {id(ticket) for ticket in tickets}
        assert queue.texts == 0
        assert queue.take(0.0) is None
        assert queue.waiting_s(Lane.INTERACTIVE) == queue.waiting_s(Lane.BULK) == 0

    play(scene)
