"""Shows how a run goes: a bar on a terminal, a line now and then in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_LINE_EVERY_S = 30.0


class Display:
    """A bar with figures beside it; used as a context."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._title = title
        self._last_line_s = 0.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=1.0, figures="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, progress: float, figures: dict[str, str]) -> None:
        """The part that is done, 0 to 1, and figures by name."""
        text = "  ".join(f"{name} {value}" for name, value in figures.items())
        self._bar.update(self._task, completed=progress, figures=text)
        now = time.monotonic()
        last = progress >= 1.0
        if not self._console.is_terminal and (now - self._last_line_s >= _LINE_EVERY_S or last):
            self._last_line_s = now
            self._console.print(f"{self._title} {progress:6.1%}  {text}", highlight=False)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, highlight=False)


def tell_time(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
