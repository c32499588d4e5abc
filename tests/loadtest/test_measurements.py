"""What workers send is the whole, nothing twice and nothing lost."""

import json

import pytest

from loadtest.measurements import Measurements


def add(measurements: Measurements, task: str, count: int, ended_s: float) -> None:
    for number in range(count):
        failure = "503 overloaded" if number == 0 else None
        measurements.add(task, 5.0, "queue;dur=2, infer;dur=3", failure, ended_s)


def test_pieces_of_workers_add_up_to_what_one_would_have_counted() -> None:
    alone, worker, master = Measurements(), Measurements(), Measurements()
    for task, count, ended_s in (("embed", 5, 10.7), ("classify", 3, 11.1), ("embed", 2, 11.9)):
        add(alone, task, count, ended_s)
        add(worker, task, count, ended_s)
        master.receive(json.loads(json.dumps(worker.take())))
    master.receive(worker.take())  # nothing more
    assert master.total.requests == alone.total.requests == 10
    assert master.total.failures == alone.total.failures == {"503 overloaded": 3}
    assert {s: f.requests for s, f in master.seconds.items()} == {10: 5, 11: 5}
    assert master.tasks["embed"].stages["queue"].mean_ms == 2
    assert master.duration_s == alone.duration_s == pytest.approx(11.9 - 10.7 + 0.005)
