"""Who is let in, in a time that the tests make themselves."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

from models import Pipeline
from models.heads import Job
from models.text.encoded import Encoded
from service.errors import Overloaded
from service.scheduling.admission import Admission, Bounds
from service.scheduling.costs import Costs, Pace
from service.scheduling.queue import Limits, Queue
from service.scheduling.ticket import Lane, Ticket

COSTS = Costs(fixed_s=0.001, token_s=1e-4, cell_s=0.0)


def make_admission(max_queue_s: float = 10.0) -> Admission:
    pace = Pace(0.0)
    queue = Queue(COSTS, Limits(max_batch_tokens=512, max_batch_s=0.1), pace)
    return Admission(queue, pace, Bounds(max_queue_s, max_queue_s))


def find_longest(admission: Admission, deadline_s: float, now: float = 0.0) -> float:
    """The longest work, in tenths of a millisecond, that is let in with that deadline."""
    work = 0.0
    while True:
        try:
            admission.check(
                Lane.INTERACTIVE, work + 1e-4, deadline=now + deadline_s, now=now, under_way=0.0
            )
        except Overloaded:
            return work
        work += 1e-4


def test_what_fits_into_the_time_left_is_let_in() -> None:
    admission = make_admission()
    longest = find_longest(admission, 0.1)
    # Less than all of it: whoever is let in is to be answered in time.
    assert 0.05 < longest < 0.1
    # What is under way comes first.
    with pytest.raises(Overloaded) as refused:
        admission.check(Lane.INTERACTIVE, longest, deadline=0.1, now=0.0, under_way=0.05)
    assert 0 < refused.value.retry_after_s < 0.1
    # A deadline that has passed lets nobody in.
    with pytest.raises(Overloaded, match="send fewer inputs"):
        admission.check(Lane.INTERACTIVE, 0.001, deadline=1.0, now=2.0, under_way=0.0)


def test_the_prediction_is_told() -> None:
    admission = make_admission()
    told = admission.check(Lane.INTERACTIVE, 0.2, deadline=9.0, now=0.0, under_way=0.1)
    assert told == pytest.approx(0.3)


def test_answers_that_take_longer_than_predicted_teach_caution() -> None:
    """Of answers that take 1.2 to 2 times what was predicted, one in 200 is late in the end."""
    chance = random.Random(7)
    admission = make_admission()
    before = find_longest(admission, 1.0)
    late = []
    for place in range(20_000):
        predicted_s, now = 0.5, place / 1000
        seconds = predicted_s * chance.uniform(1.2, 2.0)
        late.append(seconds > admission._margin * predicted_s)
        admission.learn(predicted_s, seconds, now)
    assert sum(late[10_000:]) / 10_000 < 0.02
    after = find_longest(admission, 1.0, now=20.0)
    assert after == pytest.approx(0.5, abs=0.05)
    assert after < before


def test_a_machine_that_stood_still_is_forgiven() -> None:
    admission = make_admission()
    before = find_longest(admission, 1.0)
    for _ in range(1_000):
        admission.learn(0.1, 60.0, 0.0)
    assert find_longest(admission, 1.0) < 0.5 * before
    # Some minutes later, with answers as predicted.
    for minute in range(1, 6):
        admission.learn(0.1, 0.1, 60.0 * minute)
    assert find_longest(admission, 1.0, now=300.0) == pytest.approx(before, rel=0.05)


def test_a_full_queue_is_full_for_short_texts_and_long_ones(pretraining: Pipeline) -> None:
    """At three times what can be computed both are let in as often."""
    chance = random.Random(11)
    head = pretraining.find_head("embed")
    pace = Pace(0.0)
    queue = Queue(COSTS, Limits(max_batch_tokens=512, max_batch_s=0.1), pace)
    admission = Admission(queue, pace, Bounds(10.0, 10.0))
    asked, taken = Counter[int](), Counter[int]()

    async def scene() -> None:
        now = due = busy_until = 0.0
        while now < 60.0:
            length = chance.choice((8, 8, 8, 256))
            due += chance.expovariate(3.0 / (0.25 * queue.work_s(256) + 0.75 * queue.work_s(8)))
            while busy_until <= due:
                now = busy_until
                batch = queue.take(now)
                if batch is None:
                    busy_until = due + 1e-9
                    break
                busy_until = now + batch.predicted_s
                pace.work(now, busy_until, interactive=True)
            now = due
            ids = np.zeros(length, np.int64)
            job = Job(head, None, None, Encoded(ids, ids))
            ticket = Ticket([job], deadline=now + 1.0)
            asked[length] += 1
            with suppress(Overloaded):
                admission.check(
                    Lane.INTERACTIVE,
                    queue.predict_s([job]),
                    deadline=ticket.deadline,
                    now=now,
                    under_way=max(0.0, busy_until - now),
                )
                queue.add(ticket, now)
                taken[length] += 1

    asyncio.run(scene())
    short, long = (taken[length] / asked[length] for length in (8, 256))
    assert 0.2 < long < 0.5
    assert long == pytest.approx(short, rel=0.2)


def test_a_short_text_is_not_refused_for_work_that_it_overtakes(pretraining: Pipeline) -> None:
    head = pretraining.find_head("embed")

    async def scene(overtaking: float, lane: Lane) -> None:
        pace = Pace(0.0)
        queue = Queue(COSTS, Limits(512, 0.1, overtaking), pace)
        admission = Admission(queue, pace, Bounds(60.0, 60.0))
        ids = np.zeros(256, np.int64)
        long = [Job(head, place, None, Encoded(ids, ids)) for place in range(200)]
        queue.add(Ticket(long, deadline=60.0, lane=lane), 0.0)
        now, under_way = 0.0, 0.0
        for _ in range(20):
            # A batch has just begun, whenever a short text comes.
            batch = queue.take(now)
            assert batch is not None
            under_way = batch.predicted_s
            admission.check(lane, 0.002, deadline=now + 0.5, now=now, under_way=under_way)
            now += under_way

    for lane in Lane:
        asyncio.run(scene(2.0, lane))
        with pytest.raises(Overloaded):
            asyncio.run(scene(0.0, lane))


def test_what_is_over_at_once_teaches_nothing() -> None:
    admission = make_admission()
    before = find_longest(admission, 1.0)
    for _ in range(1_000):
        admission.learn(0.001, 0.1, 0.0)
    assert find_longest(admission, 1.0) == before


def test_a_model_with_nothing_to_do_tries_what_it_refuses_now_and_then() -> None:
    """Costs that were measured on a bad day would refuse for ever what takes no time."""
    admission = make_admission()
    outcomes = []
    for _ in range(64):
        try:
            admission.check(Lane.INTERACTIVE, 0.5, deadline=0.3, now=0.0, under_way=0.0)
            outcomes.append(True)
        except Overloaded:
            outcomes.append(False)
    assert outcomes.count(True) == 4
    assert not any(outcomes[:15])
    # Not while it has something to do, and not what is late already.
    for deadline, under_way in ((0.3, 0.1), (0.0, 0.0)):
        for _ in range(40):
            with pytest.raises(Overloaded):
                admission.check(
                    Lane.INTERACTIVE, 0.5, deadline=deadline, now=0.0, under_way=under_way
                )
