"""The queue of one trunk: budget, turns, failures, deadlines, and its end."""

import asyncio
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import Pipeline
from models.bundle import Bundle
from models.engines import Session
from models.errors import ClozeError, InternalError
from models.heads import EmbedOptions, FillMaskOptions, Job, NextSentenceOptions
from models.manifest import trunk_file
from models.pipeline import prepare
from service.batcher import Batcher, Compute, Ticket
from service.errors import DeadlinePassed, NotReady, Overloaded
from tests.service.server import PATIENCE_S, check_same, hold, wait_until


class Recorder:
    """What a batcher computes with: keeps each batch, and can be held in its first one."""

    def __init__(self, compute: Compute | None = None, *, held: bool = False) -> None:
        self.compute = compute
        self.batches: list[list[Job]] = []
        self.entered = threading.Event()
        self.release = threading.Event()
        if not held:
            self.release.set()

    def __call__(self, jobs: Sequence[Job]) -> None:
        self.batches.append(list(jobs))
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        if self.compute is not None:
            self.compute(jobs)

    @property
    def items(self) -> list[Any]:
        """The items of all batches, in order."""
        return [job.item for batch in self.batches for job in batch]


MakeJobs = Callable[..., list[Job]]


@pytest.fixture(scope="module")
def make_jobs(pretraining: Pipeline) -> MakeJobs:
    """Makes a job for each length in tokens; its item is `(name, place)`."""
    head = pretraining.find_head("embed")
    options = head.resolve(EmbedOptions())

    def make(name: str, *lengths: int) -> list[Job]:
        jobs = prepare(head, [[5] * length for length in lengths], options)
        for place, job in enumerate(jobs):
            job.item = (name, place)
        return jobs

    return make


def make_batcher(
    compute: Compute, *, max_batch_tokens: int = 64, max_queue_tokens: int = 10**6, **rest: Any
) -> Batcher:
    return Batcher(
        compute,
        name="test",
        max_batch_tokens=max_batch_tokens,
        max_queue_tokens=max_queue_tokens,
        **rest,
    )


def submit(batcher: Batcher, jobs: Sequence[Job], timeout_s: float = PATIENCE_S) -> Ticket:
    ticket = Ticket(jobs, timeout_s)
    batcher.submit(ticket)
    return ticket


async def wait(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_a_batch_keeps_to_its_budget(make_jobs: MakeJobs) -> None:
    chance = random.Random(3)
    recorder = Recorder(held=True)
    observed: list[tuple[int, int]] = []
    batcher = make_batcher(
        recorder,
        max_batch_tokens=40,
        observe=lambda ran: observed.append((ran.jobs, ran.tokens)),
    )
    requests = [
        make_jobs(str(name), *(chance.randint(1, 64) for _ in range(chance.randint(1, 30))))
        for name in range(20)
    ]

    async def play() -> None:
        tickets = [submit(batcher, jobs) for jobs in requests]
        recorder.release.set()
        await asyncio.gather(*(ticket.future for ticket in tickets))

    asyncio.run(play())
    batcher.close()
    sizes = [sum(job.tokens for job in batch) for batch in recorder.batches]
    assert all(
        size <= 40 or len(batch) == 1 for size, batch in zip(sizes, recorder.batches, strict=True)
    )
    # Neither one item a batch nor half-empty ones: what fits in is taken along.
    assert max(len(batch) for batch in recorder.batches) > 2
    assert any(size > 40 for size in sizes)
    assert sorted(recorder.items) == sorted(job.item for jobs in requests for job in jobs)
    assert observed == [
        (len(batch), size) for batch, size in zip(recorder.batches, sizes, strict=True)
    ]
    assert batcher.queued_tokens == 0


def test_requests_take_turns(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=32)

    async def play() -> int:
        many = submit(batcher, make_jobs("many", *[8] * 1000))
        await wait(recorder.entered)
        one = submit(batcher, make_jobs("one", 8))
        other = submit(batcher, make_jobs("other", 8, 8))
        recorder.release.set()
        await asyncio.gather(one.future, other.future)
        await many.future
        return len(recorder.items)

    assert asyncio.run(play()) == 1003
    batcher.close()
    # Four items a batch. The first was all of one request, then each had its turn.
    assert [name for name, _ in recorder.items[:4]] == ["many"] * 4
    assert [name for name, _ in recorder.items[4:9]] == ["many", "one", "other", "many", "other"]
    # Within a request, items stay in order.
    assert [place for name, place in recorder.items if name == "many"] == list(range(1000))


class CountedSession(Session):
    """A session that counts its runs."""

    runs = 0

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        self.runs += 1
        return super().run(feeds)


def test_tasks_of_one_trunk_share_one_run_of_it(pretraining_bundle: Path) -> None:
    bundle = Bundle.open(pretraining_bundle)
    pipeline = Pipeline(bundle)
    trunk = CountedSession(bundle.file(trunk_file("fp32")), threads=1)
    pipeline.trunk = trunk
    observed: list[int] = []
    batcher = make_batcher(pipeline.compute, observe=lambda ran: observed.append(ran.jobs))
    texts, masks, pairs = ["rain"], ["the [MASK] and the [MASK]"], [("rain", "snow")]
    questions: list[tuple[str, Sequence[Any], Any]] = [
        ("embed", texts, EmbedOptions()),
        ("fill-mask", masks, FillMaskOptions()),
        ("next-sentence", pairs, NextSentenceOptions()),
    ]
    heads = [pipeline.find_head(task) for task, _, _ in questions]
    jobs = [
        prepare(head, items, head.resolve(options))
        for head, (_, items, options) in zip(heads, questions, strict=True)
    ]

    async def play() -> None:
        with hold(pipeline, batcher):
            tickets = [submit(batcher, each) for each in jobs]
            assert (trunk.runs, observed) == (1, [])
        await asyncio.gather(*(ticket.future for ticket in tickets))

    asyncio.run(play())
    batcher.close()
    assert trunk.runs == 2
    assert observed == [1, 3]
    answers = [head.decode(each[0]) for head, each in zip(heads, jobs, strict=True)]
    check_same(answers[0], pipeline.embed(texts)[0])
    (wanted,) = pipeline.fill_mask(masks)
    assert [[one.token_id for one in mask.candidates] for mask in answers[1]] == [
        [one.token_id for one in mask.candidates] for mask in wanted
    ]
    check_same(answers[2].score, pipeline.next_sentence(pairs)[0].score)


def test_a_failure_is_for_its_own_requests(make_jobs: MakeJobs) -> None:
    class Poisoned(Recorder):
        def __call__(self, jobs: Sequence[Job]) -> None:
            super().__call__(jobs)
            if any(job.item == ("bad", 1) for job in jobs):
                raise ValueError("a secret of the house")

    recorder = Poisoned(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=8)

    async def play() -> list[BaseException | None]:
        tickets = [
            submit(batcher, make_jobs("good", 8, 8, 8)),
            submit(batcher, make_jobs("bad", 8, 8, 8, 8)),
            submit(batcher, make_jobs("fine", 8, 8, 8)),
        ]
        recorder.release.set()
        found = await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)
        # The thread lives on.
        await submit(batcher, make_jobs("later", 8)).future
        return found

    good, bad, fine = asyncio.run(play())
    assert (good, fine) == (None, None)
    assert isinstance(bad, InternalError)
    assert "secret" not in str(bad)
    assert batcher.alive
    batcher.close()
    # What nobody will read is not computed.
    assert [place for name, place in recorder.items if name == "bad"] == [0, 1]
    assert batcher.queued_tokens == 0


def test_what_was_dropped_is_not_computed(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(recorder.entered)
        gone = submit(batcher, make_jobs("gone", *[8] * 100))
        stays = submit(batcher, make_jobs("stays", 8))
        error = ClozeError("nobody is there")
        gone.drop(error)
        recorder.release.set()
        await asyncio.gather(first.future, stays.future)
        assert gone.future.exception() is error

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("first", 0), ("stays", 0)]
    assert batcher.queued_tokens == 0


def test_what_is_dropped_half_way_goes_no_further(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=16)

    async def play() -> None:
        gone = submit(batcher, make_jobs("gone", *[8] * 10))
        await wait(recorder.entered)
        gone.drop(ClozeError("nobody is there"))
        recorder.release.set()
        await submit(batcher, make_jobs("later", 8)).future
        assert gone.future.exception()

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("gone", 0), ("gone", 1), ("later", 0)]
    assert batcher.queued_tokens == 0


def test_what_is_late_hears_so_and_is_not_computed(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(recorder.entered)
        late = submit(batcher, make_jobs("late", 8, 8), timeout_s=0.001)
        patient = submit(batcher, make_jobs("patient", 8))
        await asyncio.sleep(0.01)
        recorder.release.set()
        with pytest.raises(DeadlinePassed):
            await late.future
        await asyncio.gather(first.future, patient.future)

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("first", 0), ("patient", 0)]
    assert batcher.queued_tokens == 0


def test_a_full_queue_takes_no_more(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_queue_tokens=50)

    async def play() -> None:
        tickets = [submit(batcher, make_jobs("running", 8))]
        await wait(recorder.entered)
        # An empty queue takes any request: one that is too large alone would never get in.
        tickets.append(submit(batcher, make_jobs("large", 40, 40)))
        assert batcher.queued_tokens == 80
        with pytest.raises(Overloaded, match="80 tokens"):
            submit(batcher, make_jobs("more", 1))
        recorder.release.set()
        await asyncio.gather(*(ticket.future for ticket in tickets))
        await submit(batcher, make_jobs("more", 1)).future

    asyncio.run(play())
    batcher.close()
    assert [name for name, _ in recorder.items] == ["running", "large", "large", "more"]


def test_closing_finishes_what_is_queued(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=8)

    async def play() -> None:
        tickets = [submit(batcher, make_jobs(str(name), 8, 8, 8)) for name in range(5)]
        await wait(recorder.entered)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.to_thread(wait_until, lambda: not batcher.alive)
        with pytest.raises(NotReady, match="shutting down"):
            submit(batcher, make_jobs("late", 8))
        assert not closing.done()
        recorder.release.set()
        await closing
        await asyncio.gather(*(ticket.future for ticket in tickets))

    asyncio.run(play())
    assert len(recorder.items) == 15
    assert not batcher.alive
    # Once more does no harm.
    batcher.close()


def test_a_caller_whose_loop_has_ended_does_no_harm(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def leave() -> None:
        submit(batcher, make_jobs("gone", 8))
        await wait(recorder.entered)

    async def ask() -> None:
        await submit(batcher, make_jobs("later", 8)).future

    asyncio.run(leave())
    recorder.release.set()
    asyncio.run(ask())
    assert batcher.alive
    batcher.close()
