"""The queue of one trunk: budget, turns, failures, deadlines, and its end."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from models import Pipeline
from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.engines import HostOutput
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.errors import BundleDamaged, InternalError, RunStopped
from models.heads import EmbedOptions, FillMaskOptions, Job, NextSentenceOptions
from models.pipeline import prepare
from models.text.packing import Extent
from service.errors import DeadlinePassed, NotReady, Overloaded
from service.registry.watchdog import Watchdog
from service.scheduling.admission import Bounds
from service.scheduling.batcher import Batcher, BatchRecord
from service.scheduling.costs import Costs
from service.scheduling.graphs import GraphState, Trunk
from service.scheduling.queue import Limits
from service.scheduling.ticket import Lane, Ticket
from tests.helpers.server import PATIENCE_S, check_same, hold, wait_until

Compute = Callable[[Sequence[Job]], Extent]


class Recorder:
    """What a batcher computes with: keeps each batch, and can be held in its first one."""

    def __init__(self, compute: Compute | None = None, *, held: bool = False) -> None:
        self.inner = compute
        self.batches: list[list[Job]] = []
        self.entered = threading.Event()
        self.release = threading.Event()
        self.probes = self.stops = self.reopened = 0
        if not held:
            self.release.set()

    def compute(self, jobs: Sequence[Job]) -> Extent:
        self.batches.append(list(jobs))
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        return Extent(1, 1) if self.inner is None else self.inner(jobs)

    def probe(self) -> None:
        self.probes += 1

    def stop(self) -> None:
        self.stops += 1

    def reopen(self) -> None:
        self.reopened += 1

    @property
    def items(self) -> list[Any]:
        """The items of all batches, in order."""
        return [job.item for batch in self.batches for job in batch]


MakeJobs = Callable[..., list[Job]]


@pytest.fixture(scope="module")
def make_jobs(pretraining: Pipeline) -> MakeJobs:
    """Makes a job for each length in tokens; its item is `(name, place)`."""
    head = pretraining.find_head("embed")
    options = head.resolve(EmbedOptions(special_tokens=None))

    def make(name: str, *lengths: int) -> list[Job]:
        jobs = prepare(head, [[5] * length for length in lengths], options)
        for place, job in enumerate(jobs):
            job.item = (name, place)
        return jobs

    return make


def make_batcher(
    trunk: Trunk, *, max_batch_tokens: int = 64, max_queue_s: float = 1e9, **rest: Any
) -> Batcher:
    # A batch of its tokens costs a millisecond for each, and all join that fit.
    return Batcher(
        trunk,
        name="test",
        costs=Costs(fixed_s=10.0, token_s=0.001, cell_s=0.0),
        limits=Limits(max_batch_tokens=max_batch_tokens, max_batch_s=1e6, overtaking=0.0),
        bounds=Bounds(max_queue_s, max_queue_s),
        **rest,
    )


def submit(
    batcher: Batcher, jobs: Sequence[Job], timeout_s: float = 1e9, lane: Lane = Lane.INTERACTIVE
) -> Ticket:
    ticket = Ticket(jobs, deadline=time.perf_counter() + timeout_s, lane=lane)
    batcher.submit(ticket)
    return ticket


async def wait(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_S)


def test_a_batch_keeps_to_its_budget(make_jobs: MakeJobs) -> None:
    chance = random.Random(3)
    recorder = Recorder(held=True)
    observed: list[BatchRecord] = []
    batcher = make_batcher(
        recorder,
        max_batch_tokens=40,
        observe=observed.append,
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
    assert [(ran.jobs, ran.tokens, ran.failed) for ran in observed] == [
        (len(batch), size, False) for batch, size in zip(recorder.batches, sizes, strict=True)
    ]
    assert batcher.queued_texts == 0


def test_the_order_within_a_request_is_kept(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=32)

    async def play() -> None:
        many = submit(batcher, make_jobs("many", *[8] * 1000))
        await wait(recorder.entered)
        other = submit(batcher, make_jobs("other", 8, 8))
        recorder.release.set()
        await asyncio.gather(many.future, other.future)

    asyncio.run(play())
    batcher.close()
    assert [place for name, place in recorder.items if name == "many"] == list(range(1000))
    assert len(recorder.items) == 1002


class CountedSession(OnnxRuntimeSession):
    """A session that counts its runs."""

    runs = 0

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> HostOutput:
        self.runs += 1
        return super().run(feeds)


def test_tasks_of_one_trunk_share_one_run_of_it(pretraining_bundle: Path) -> None:
    bundle = Bundle.open(pretraining_bundle)
    pipeline = Pipeline(bundle, engine="onnxruntime")
    trunk = CountedSession(bundle.file(trunk_file("fp32")), threads=1)
    pipeline.trunk = trunk
    observed: list[BatchRecord] = []
    batcher = make_batcher(pipeline, observe=observed.append)
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
    assert [ran.jobs for ran in observed] == [1, 3]
    # Three texts side by side, in rows as wide as the longest.
    assert observed[1].tokens <= observed[1].cells <= 3 * max(job.tokens for [job] in jobs)
    answers = [head.decode(each[0]) for head, each in zip(heads, jobs, strict=True)]
    check_same(answers[0], pipeline.embed(texts)[0])
    (wanted,) = pipeline.fill_mask(masks)
    assert [[one.token_id for one in mask.candidates] for mask in answers[1]] == [
        [one.token_id for one in mask.candidates] for mask in wanted
    ]
    check_same(answers[2].score, pipeline.next_sentence(pairs)[0].score)


class Poisoned(Recorder):
    """Fails for every batch that holds one of these items."""

    def __init__(self, *bad: Any, held: bool = True) -> None:
        super().__init__(held=held)
        self.bad = bad

    def compute(self, jobs: Sequence[Job]) -> Extent:
        extent = super().compute(jobs)
        if any(job.item in self.bad for job in jobs):
            raise ValueError("a secret of the house")
        return extent


def test_a_failure_is_for_the_guilty_text_alone(make_jobs: MakeJobs) -> None:
    recorder = Poisoned(("bad", 2), ("worse", 0))
    observed: list[BatchRecord] = []
    batcher = make_batcher(recorder, max_batch_tokens=256, observe=observed.append)

    async def play() -> list[Ticket]:
        first = submit(batcher, make_jobs("first", 8))
        await wait(recorder.entered)
        tickets = [submit(batcher, make_jobs(f"good {number}", 8, 8)) for number in range(6)]
        tickets.append(submit(batcher, make_jobs("bad", 8, 8, 8, 8)))
        tickets.append(submit(batcher, make_jobs("worse", 8)))
        recorder.release.set()
        await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)
        await first.future
        # The thread lives on.
        await submit(batcher, make_jobs("later", 8)).future
        return tickets

    *good, bad, worse = asyncio.run(play())
    assert all(ticket.future.exception() is None for ticket in good)
    for ticket, place in ((bad, 2), (worse, 0)):
        error = ticket.future.exception()
        assert isinstance(error, InternalError)
        assert "secret" not in str(error)
        assert ticket.guilty is ticket.jobs[place]
    assert batcher.alive
    batcher.close()
    assert [ran.failed for ran in observed] == [False, True, False]
    # A known text was computed all along: nothing was loaded anew.
    assert recorder.probes > 0
    assert recorder.reopened == 0
    # Halves of 17 texts, for two of them: not each by itself.
    assert len(recorder.batches) < 17
    assert batcher.queued_texts == 0


def test_what_is_left_of_a_guilty_request_is_not_computed(make_jobs: MakeJobs) -> None:
    recorder = Poisoned(("bad", 1))
    batcher = make_batcher(recorder, max_batch_tokens=8)

    async def play() -> list[BaseException | None]:
        names = ("good", "bad", "fine")
        tickets = [submit(batcher, make_jobs(name, 8, 8, 8, 8)) for name in names]
        recorder.release.set()
        return await asyncio.gather(*(each.future for each in tickets), return_exceptions=True)

    good, bad, fine = asyncio.run(play())
    batcher.close()
    assert (good, fine) == (None, None)
    assert isinstance(bad, InternalError)
    assert {place for name, place in recorder.items if name == "bad"} == {0, 1}


class Mortal(Recorder):
    """Computes nothing any more once it has died, until it is loaded anew."""

    def __init__(self, *, held: bool = True) -> None:
        super().__init__(held=held)
        self.dead = False
        self.cannot: Exception | None = None

    def compute(self, jobs: Sequence[Job]) -> Extent:
        extent = super().compute(jobs)
        self.probe()
        return extent

    def probe(self) -> None:
        if self.dead:
            raise RuntimeError("no graph")

    def reopen(self) -> None:
        super().reopen()
        if self.cannot is not None:
            raise self.cannot
        self.dead = False


def test_dead_graphs_are_replaced_while_requests_wait(make_jobs: MakeJobs) -> None:
    trunk = Mortal()
    replaced: list[str] = []
    batcher = make_batcher(trunk, on_replace=lambda: replaced.append("once"))

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8, 8))
        await wait(trunk.entered)
        later = submit(batcher, make_jobs("later", *[8] * 20))
        trunk.dead = True
        trunk.release.set()
        # Nobody hears of it.
        await asyncio.gather(first.future, later.future)

    asyncio.run(play())
    assert (trunk.reopened, replaced) == (1, ["once"])
    assert batcher.alive
    assert batcher.reason == ""
    batcher.close()


def test_graphs_that_cannot_be_loaded_answer_not_ready_until_they_can(make_jobs: MakeJobs) -> None:
    trunk = Mortal()
    trunk.cannot = BundleDamaged("the disk is gone")
    batcher = make_batcher(trunk)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(trunk.entered)
        later = submit(batcher, make_jobs("later", *[8] * 20))
        trunk.dead = True
        trunk.release.set()
        with pytest.raises(NotReady, match="the disk is gone"):
            await first.future
        assert batcher.state is GraphState.FAILED
        assert not batcher.alive
        assert "the disk is gone" in batcher.reason
        with pytest.raises(NotReady, match="the disk is gone"):
            submit(batcher, make_jobs("more", 8))
        # Whoever waited hears it at the next look.
        batcher.check()
        with pytest.raises(NotReady, match="the disk is gone"):
            await later.future
        # It is not tried again at once.
        assert trunk.reopened == 1
        trunk.cannot = None
        batcher._graphs._retry_at = 0.0
        batcher.check()
        await asyncio.to_thread(wait_until, lambda: batcher.alive)
        await submit(batcher, make_jobs("again", 8)).future

    asyncio.run(play())
    assert trunk.reopened == 2
    batcher.close()


def test_closing_does_not_wait_for_graphs_whose_loading_stands_still(
    make_jobs: MakeJobs,
) -> None:
    trunk = Mortal()
    let_go, entered = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert let_go.wait(PATIENCE_S)

    trunk.reopen = hang  # type: ignore[method-assign]
    batcher = make_batcher(trunk)

    async def play() -> None:
        ticket = submit(batcher, make_jobs("one", 8))
        trunk.dead = True
        trunk.release.set()
        await wait(entered)
        assert batcher.state is GraphState.REPLACING
        # It is loading, and its time is not over.
        assert batcher.stuck == 0
        await asyncio.to_thread(batcher.close, 0.01)
        with pytest.raises(NotReady, match="shutting down"):
            await ticket.future

    asyncio.run(play())
    wait_until(lambda: not batcher._thread.is_alive())
    let_go.set()


class Stuck(Recorder):
    """Stands still in every batch that holds one of these items, until it is stopped, or for ever.

    For ever: until the test lets go.
    """

    def __init__(self, *bad: Any, stoppable: bool) -> None:
        super().__init__()
        self.bad = bad
        self.stoppable = stoppable
        self.stopped = threading.Event()
        self.let_go = threading.Event()
        self.held = threading.Event()

    def compute(self, jobs: Sequence[Job]) -> Extent:
        extent = super().compute(jobs)
        if any(job.item in self.bad for job in jobs):
            self.held.set()
            waits = self.stopped if self.stoppable else self.let_go
            assert waits.wait(PATIENCE_S)
            self.stopped.clear()
            raise RunStopped("stopped")
        return extent

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


@pytest.mark.parametrize("stoppable", [True, False])
def test_a_batch_that_stands_still_is_ended_for_its_guilty_text(
    make_jobs: MakeJobs,
    stoppable: bool,  # noqa: FBT001
) -> None:
    trunk = Stuck(("bad", 0), stoppable=stoppable)
    batcher = make_batcher(trunk, stall_s=0.2)
    # Predictions are of hours here.
    batcher._pace.factor = 1e-6
    watchdog = Watchdog(lambda: [batcher])

    async def play() -> list[BaseException | None]:
        names = ("good", "bad", "fine", "late")
        tickets = [submit(batcher, make_jobs(name, 8)) for name in names]
        return await asyncio.gather(*(each.future for each in tickets), return_exceptions=True)

    good, bad, fine, late = asyncio.run(play())
    assert (good, fine, late) == (None, None, None)
    assert isinstance(bad, InternalError)
    wait_until(lambda: batcher.alive)
    # A thread that could not be ended is given up, and another one works on new graphs.
    assert (batcher.stuck > 0) is not stoppable
    assert (trunk.reopened > 0) is not stoppable
    trunk.let_go.set()
    wait_until(lambda: batcher.stuck == 0)
    asyncio.run(answer_one(batcher, make_jobs))
    watchdog.close()
    batcher.close()


def test_time_that_the_process_did_not_get_is_none_of_the_batch(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for half a minute and sent on, it looks like one that stands still, and is sound."""
    trunk = Recorder(held=True)
    batcher = make_batcher(trunk, stall_s=20.0)
    batcher._pace.factor = 1e-6
    told: list[str] = []

    class Log:
        def error(self, event: str, **_: Any) -> None:
            told.append(event)

    monkeypatch.setattr("service.scheduling.batcher._log", Log())

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(trunk.entered)
        batcher.check()
        run = batcher._run
        assert run is not None
        # As if all of it had been 35 s ago, and nobody had looked since.
        run.stuck_at -= 35.0
        batcher._checked -= 35.0
        batcher.check()
        batcher.check()
        assert not told
        assert not trunk.reopened
        # Where somebody looks all the time, so long is too long.
        run.stuck_at -= 35.0
        trunk.release.set()
        await asyncio.to_thread(batcher.check)
        await first.future

    asyncio.run(play())
    batcher.close()


def test_a_batch_that_ends_while_it_is_found_to_stand_still_keeps_its_thread(
    make_jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends by itself between the look at it and what is done about it."""
    trunk = Recorder(held=True)
    batcher = make_batcher(trunk, stall_s=0.01)
    batcher._pace.factor = 1e-6
    thread = batcher._thread

    class SlowLog:
        def error(self, *_: Any, **__: Any) -> None:
            trunk.release.set()
            wait_until(lambda: batcher._run is None)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(trunk.entered)
        monkeypatch.setattr("service.scheduling.batcher._log", SlowLog())
        await asyncio.sleep(0.02)
        await asyncio.to_thread(batcher.check)
        await first.future
        await answer_one(batcher, make_jobs)

    asyncio.run(play())
    assert batcher._thread is thread
    assert (batcher.stuck, trunk.stops, trunk.reopened) == (0, 0, 0)
    batcher.close()


def test_one_thread_empties_a_queue(make_jobs: MakeJobs) -> None:
    """Whoever is followed by another one ends, whatever it was taken for."""
    batcher = make_batcher(Recorder())
    first = batcher._thread
    batcher._start()
    wait_until(lambda: not first.is_alive())
    asyncio.run(answer_one(batcher, make_jobs))
    assert batcher.alive
    batcher.close()


async def answer_one(batcher: Batcher, make_jobs: MakeJobs) -> None:
    await submit(batcher, make_jobs("later", 8)).future


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_followed_by_another(make_jobs: MakeJobs) -> None:
    """Whatever bug of ours it was: who waits is answered."""

    class Ending(Recorder):
        def compute(self, jobs: Sequence[Job]) -> Extent:
            if len(self.batches) == 0:
                super().compute(jobs)
                raise SystemExit
            return super().compute(jobs)

    batcher = make_batcher(Ending())

    async def play() -> None:
        ticket = submit(batcher, make_jobs("one", 8, 8))
        await asyncio.to_thread(wait_until, lambda: not batcher._thread.is_alive())
        assert not batcher.alive
        batcher.check()
        await ticket.future

    asyncio.run(play())
    assert batcher.alive
    batcher.close()


def test_what_was_dropped_is_not_computed(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(recorder.entered)
        gone = submit(batcher, make_jobs("gone", *[8] * 100))
        stays = submit(batcher, make_jobs("stays", 8))
        batcher.finish(gone, learn=False)
        assert batcher.queued_texts == 1
        recorder.release.set()
        await asyncio.gather(first.future, stays.future)
        assert not gone.future.done()

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("first", 0), ("stays", 0)]
    assert batcher.queued_texts == 0


def test_what_is_dropped_half_way_goes_no_further(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=16)

    async def play() -> None:
        gone = submit(batcher, make_jobs("gone", *[8] * 10))
        await wait(recorder.entered)
        batcher.finish(gone, learn=False)
        recorder.release.set()
        await submit(batcher, make_jobs("later", 8)).future
        assert not gone.future.done()

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("gone", 0), ("gone", 1), ("later", 0)]
    assert batcher.queued_texts == 0


def test_what_is_late_hears_so_and_is_not_computed(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def play() -> None:
        first = submit(batcher, make_jobs("first", 8))
        await wait(recorder.entered)
        late = submit(batcher, make_jobs("late", 8, 8))
        late.deadline = 0.0
        patient = submit(batcher, make_jobs("patient", 8))
        recorder.release.set()
        with pytest.raises(DeadlinePassed):
            await late.future
        await asyncio.gather(first.future, patient.future)

    asyncio.run(play())
    batcher.close()
    assert recorder.items == [("first", 0), ("patient", 0)]
    assert batcher.queued_texts == 0


def test_a_full_queue_takes_no_more(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_queue_s=50.0)

    async def play() -> None:
        tickets = [submit(batcher, make_jobs("running", 8))]
        await wait(recorder.entered)
        # An empty queue takes any request: one that is too large alone would never get in.
        tickets.append(submit(batcher, make_jobs("large", *[64] * 10)))
        assert batcher.queued_s > 50.0
        with pytest.raises(Overloaded, match="may wait; try again later") as caught:
            submit(batcher, make_jobs("more", 1))
        assert 0 < caught.value.retry_after_s <= batcher.queued_s
        with pytest.raises(Overloaded):
            batcher.check_room(Lane.INTERACTIVE, time.perf_counter() + 1e6)
        # The other lane has a queue of its own.
        tickets.append(submit(batcher, make_jobs("bulk", 1), lane=Lane.BULK))
        recorder.release.set()
        await asyncio.gather(*(ticket.future for ticket in tickets))
        await submit(batcher, make_jobs("more", 1)).future

    asyncio.run(play())
    batcher.close()
    assert {name for name, _ in recorder.items} == {"running", "large", "bulk", "more"}


@pytest.mark.parametrize("lane", list(Lane))
def test_what_cannot_be_answered_in_time_is_refused_at_once(
    make_jobs: MakeJobs, lane: Lane
) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder)

    async def play() -> None:
        tickets = [submit(batcher, make_jobs("running", 64))]
        await wait(recorder.entered)
        tickets.append(submit(batcher, make_jobs("waiting", *[64] * 5)))
        waiting = batcher.queued_s
        with pytest.raises(Overloaded, match="try again later") as caught:
            submit(batcher, make_jobs("hasty", 1), timeout_s=waiting, lane=lane)
        assert caught.value.retry_after_s > 0
        with pytest.raises(Overloaded, match="send fewer inputs"):
            submit(batcher, make_jobs("hopeless", *[64] * 100), timeout_s=waiting, lane=lane)
        tickets.append(submit(batcher, make_jobs("patient", 1), timeout_s=5 * waiting, lane=lane))
        recorder.release.set()
        await asyncio.gather(*(ticket.future for ticket in tickets))

    asyncio.run(play())
    batcher.close()
    assert {name for name, _ in recorder.items} == {"running", "waiting", "patient"}


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


def test_closing_tells_those_who_are_not_done_in_time(make_jobs: MakeJobs) -> None:
    recorder = Recorder(held=True)
    batcher = make_batcher(recorder, max_batch_tokens=8)

    async def play() -> None:
        tickets = [submit(batcher, make_jobs(str(name), 8)) for name in range(5)]
        await wait(recorder.entered)
        await asyncio.to_thread(batcher.close, 0.01)
        for ticket in tickets:
            with pytest.raises(NotReady, match="shutting down"):
                await ticket.future

    asyncio.run(play())
    assert recorder.stops > 0
    recorder.release.set()
    wait_until(lambda: not batcher._thread.is_alive())
    assert len(recorder.items) == 1


def test_closing_ends_a_computation_that_goes_on_from_one_that_hangs_to_the_next(
    make_jobs: MakeJobs,
) -> None:
    """A known text is asked of graphs that were stopped, and hangs in the same one."""
    trunk = Stuck(("bad", 0), stoppable=True)
    computing = trunk.compute

    def run_two_graphs(jobs: Sequence[Job]) -> Extent:
        with suppress(RunStopped):
            computing(jobs)
        return computing(jobs)

    trunk.compute = run_two_graphs  # type: ignore[method-assign]
    trunk.probe = lambda: run_two_graphs(make_jobs("bad", 8))  # type: ignore[method-assign]
    batcher = make_batcher(trunk)

    async def play() -> None:
        ticket = submit(batcher, make_jobs("bad", 8))
        await wait(trunk.held)
        await asyncio.to_thread(batcher.close, 0.01)
        with pytest.raises(NotReady, match="shutting down"):
            await ticket.future

    asyncio.run(play())
    assert not batcher._thread.is_alive()
    assert batcher.stuck == 0


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
