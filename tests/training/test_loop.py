"""The loop spends the budget, saves what it must, and logs every saved step once."""

import json
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from training.errors import RunDamaged, TrainingDiverged
from training.loop import Loop, Record
from training.progress import Display
from training.schedule import Schedule
from training.storage import read_state, write_state


class Sum:
    """A course that adds up the numbers of its steps."""

    title = "sum"
    panels: tuple[tuple[str, ...], ...] = (("loss",),)
    shown: ClassVar[dict[str, str]] = {"loss": "loss"}

    def __init__(self, fails: dict[int, Any] | None = None) -> None:
        self.total = 0
        self._fails = fails or {}

    def take_step(self, step: int, progress: float, learning_rate: float) -> dict[str, float]:
        failure = self._fails.get(step)
        assert 0 <= progress < 1
        assert learning_rate > 0
        self.total += step
        if failure == "interrupt":  # Ctrl-C, when half of the step is done
            signal.raise_signal(signal.SIGINT)
            failure = None
        return {"loss": failure or 1.0, "tokens": 10}

    def validate(self) -> dict[str, float]:
        return {"validation_loss": float(self.total)}

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


def make_loop(folder: Path, course: Sum, steps: int = 8, save_every_s: float = 1000) -> Loop:
    return Loop(course, Schedule(0.1, None, steps), folder, save_every_s)


def run(loop: Loop) -> None:
    with Display("sum") as display:
        loop.run(display)


def read_steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_ends_saved(tmp_path: Path) -> None:
    course = Sum()
    loop = make_loop(tmp_path, course)
    assert not loop.resume()
    run(loop)
    assert course.total == sum(range(8))
    assert read_state(tmp_path / "state.pt")["course"] == {"total": 28}
    (record,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (record["step"], record["tokens"], record["validation_loss"]) == (8, 80, 28.0)
    assert record["learning_rate"] == 0
    assert (tmp_path / "curves.png").exists()


def test_every_saved_step_is_logged_once(tmp_path: Path) -> None:
    run(make_loop(tmp_path, Sum(), steps=3, save_every_s=0))
    assert read_steps(tmp_path) == [1, 2, 3]


def test_an_interrupt_is_saved_and_handed_on(tmp_path: Path) -> None:
    """In the middle of a step, as nearly always: the saved state is that of whole steps."""
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path, Sum({5: "interrupt"})))
    course = Sum()
    loop = make_loop(tmp_path, course)
    assert loop.resume()
    done = loop.schedule.done
    assert done in (5, 6)
    assert (loop.record.tokens, course.total) == (10 * done, sum(range(done)))
    run(loop)
    assert course.total == sum(range(8))
    assert read_steps(tmp_path) == [done, 8]


def test_a_finished_run_has_nothing_to_add(tmp_path: Path) -> None:
    run(make_loop(tmp_path, Sum()))
    before = (tmp_path / "log.jsonl").read_text()
    loop = make_loop(tmp_path, Sum())
    assert loop.resume()
    run(loop)
    assert (tmp_path / "log.jsonl").read_text() == before


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_state(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(make_loop(tmp_path, Sum({3: "interrupt"})))
    loop = make_loop(tmp_path, Sum({6: float("nan")}))
    loop.resume()
    with pytest.raises(TrainingDiverged, match="no longer a number at step 6"):
        run(loop)
    assert read_state(tmp_path / "state.pt")["schedule"]["done"] in (3, 4)


@pytest.mark.parametrize("state", [{}, {"course": {}}, {"course": 1, "schedule": 2, "record": 3}])
def test_a_state_of_another_form(tmp_path: Path, state: dict[str, Any]) -> None:
    write_state(state, tmp_path / "state.pt")
    with pytest.raises(RunDamaged, match=r"state\.pt"):
        make_loop(tmp_path, Sum()).resume()


def test_figures_are_smoothed_and_tokens_counted() -> None:
    record = Record()
    record.add({"loss": 2.0, "tokens": 10, "nsp": float("nan")})
    assert (record.tokens, record.figures) == (10, {"loss": 2.0})
    record.add({"loss": 1.0, "tokens": 5, "nsp": 0.5})
    assert record.tokens == 15
    assert record.figures == {"loss": pytest.approx(1.98), "nsp": 0.5}
