"""Runs the steps of a course against a budget, and saves so that nothing is lost.

What a step is, the course says; here are the schedule, the state on disk, the log, the picture
and the display, which pre-training and fine-tuning share.
"""

import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from training.curves import draw_curves
from training.errors import RunDamaged, TrainingDiverged
from training.progress import Display, tell_time
from training.schedule import Schedule
from training.storage import append_record, read_state, trim_records, write_state

STATE_NAME, LOG_NAME, PICTURE_NAME = "state.pt", "log.jsonl", "curves.png"
_SMOOTHING = 0.98


class Course(Protocol):
    """What is learnt: a model, its optimizer and its place in the data."""

    title: str
    panels: tuple[tuple[str, ...], ...]
    shown: ClassVar[dict[str, str]]

    def take_step(self, step: int, progress: float, learning_rate: float) -> dict[str, float]:
        """One step; its figures by name, `tokens` (seen in it) among them."""

    def validate(self) -> dict[str, float]:
        """Figures on text not trained on."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, in types that torch.load reads as weights only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where state_dict left off."""


@dataclass
class Record:
    """What a run has seen: tokens, and figures smoothed over the last fifty steps or so."""

    tokens: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """Counts the tokens of a step and smooths its other figures in."""
        for name, value in figures.items():
            if name == "tokens":
                self.tokens += int(value)
            elif np.isfinite(value):
                before = self.figures.get(name, value)
                self.figures[name] = _SMOOTHING * before + (1 - _SMOOTHING) * value


class Loop:
    """One run in a directory: course, schedule and record, saved and resumed together."""

    def __init__(
        self, course: Course, schedule: Schedule, directory: Path, save_every_s: float
    ) -> None:
        self.schedule = schedule
        self.record = Record()
        self._course = course
        self._directory = directory
        self._save_every_s = save_every_s
        self._saved_s = time.monotonic()
        self._saved_step = 0

    def resume(self) -> bool:
        """Takes up the saved state, if there is one. Raises RunDamaged."""
        path = self._directory / STATE_NAME
        if not path.exists():
            return False
        state = read_state(path)
        try:
            self._course.load_state_dict(state["course"])
            self.schedule = Schedule(**state["schedule"])
            self.record = Record(**state["record"])
        except (KeyError, TypeError, ValueError, RuntimeError) as form:
            raise RunDamaged(
                f"{path} is not the state of this run ({type(form).__name__}); it is damaged or of "
                "another version. Start over in another directory with --out."
            ) from form
        self._saved_step = self.schedule.done
        trim_records(self._directory / LOG_NAME, self.schedule.done)
        return True

    def run(self, display: Display) -> None:
        """Trains until the budget is used up; at an interrupt it ends the step, saves and raises.

        Raises KeyboardInterrupt, StorageFull and TrainingDiverged; the last saved state stands.
        """
        with _Interrupts() as interrupts:
            while not self.schedule.is_over and not interrupts.came:
                self._take_step()
                display.show(self.schedule.progress, self._tell())
                if self._is_due():
                    self.save()
            if self._saved_step != self.schedule.done:
                self.save()
            if interrupts.came:
                raise KeyboardInterrupt

    def save(self) -> None:
        """Refits the schedule and writes the state, the log and the picture."""
        self.schedule.fit()
        line = {
            "step": self.schedule.done,
            "tokens": self.record.tokens,
            "spent_s": round(self.schedule.spent_s, 1),
            "learning_rate": self.schedule.find_rate(),
            **self.record.figures,
            **self._course.validate(),
        }
        state = {
            "course": self._course.state_dict(),
            "schedule": self.schedule.state_dict(),
            "record": vars(self.record),
        }
        write_state(state, self._directory / STATE_NAME)
        log = self._directory / LOG_NAME
        append_record(line, log)
        picture = self._directory / PICTURE_NAME
        draw_curves(log, picture, self._course.panels, self._course.title)
        self._saved_s = time.monotonic()
        self._saved_step = self.schedule.done

    def _take_step(self) -> None:
        begin = time.monotonic()
        schedule = self.schedule
        figures = self._course.take_step(schedule.done, schedule.progress, schedule.find_rate())
        if not np.isfinite(figures["loss"]):
            raise TrainingDiverged(
                f"The loss is no longer a number at step {schedule.done}. Start the same command "
                "again to go on from the last saved state, or start over with a smaller "
                "--learning-rate."
            )
        schedule.count_step(time.monotonic() - begin)
        self.record.add(figures)

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._saved_s >= self._save_every_s
        return waited or self.schedule.needs_fit

    def _tell(self) -> dict[str, str]:
        figures = self.record.figures
        speed = self.record.tokens / max(1e-9, self.schedule.spent_s)
        return {
            label: f"{figures[name]:.3f}"
            for name, label in self._course.shown.items()
            if name in figures
        } | {
            "tokens/s": f"{speed:,.0f}",
            "left": tell_time(self.schedule.left_s) if self.schedule.expected else "measuring",
        }


class _Interrupts:
    """Holds Ctrl-C back until a step is whole: half a step cannot be saved."""

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Only the main thread hears signals; elsewhere there is nothing to hold back.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
