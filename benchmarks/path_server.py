"""The service of the folder in PATH_TREE, with what `benchmarks.path` looks at.

Knows nothing of how the service is laid out but its command line and `models.pipeline.Pipeline`, so
that it starts other commits too. SIGUSR1 lets the trunk answer at once from then on: what it gave
for as many tokens before. With a file named in PATH_RECORD it notes calls from one SIGUSR2 to the
next, and writes them there.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = os.environ["PATH_TREE"]
# The folder of this file comes first otherwise, with the modules of another commit in it.
sys.path[0] = ROOT
OURS = tuple(f"{ROOT}/{name}/" for name in ("models", "service"))


class Instant:
    """A trunk that computes each number of tokens once, after which it only says it again."""

    armed = False

    def __init__(self, trunk: Any) -> None:
        self._trunk = trunk
        self._known: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trunk, name)

    def run(self, feeds: Mapping[str, Any]) -> Any:
        """Hidden states of the right shape."""
        if not self.armed:
            return self._trunk.run(feeds)
        tokens = len(feeds["input_ids"])
        if tokens not in self._known:
            self._known[tokens] = self._trunk.run(feeds)
        return self._known[tokens]


class Recorder:
    """Notes each call of the service's own functions, in all threads, while it is told to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._calls: list[tuple[str, str]] | None = None

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """One event of the interpreter's."""
        if event == "call" and self._calls is not None and _is_asked():
            name = frame.f_code.co_filename
            if name.startswith(OURS):
                self._calls.append((name[len(ROOT) + 1 :], frame.f_code.co_qualname))

    def turn(self, *_: Any) -> None:
        """Begin to note, or write what was noted."""
        calls, self._calls = self._calls, None
        if calls is None:
            self._calls = []
        else:
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(calls))
            part.rename(self._file)


def _is_asked() -> bool:
    """Whether the thread works for requests; the watchdog looks at the models whatever is asked."""
    return threading.current_thread().name != "watchdog"


def main() -> None:
    """Start the service as its own command line does."""
    os.chdir(ROOT)
    record = os.environ.pop("PATH_RECORD", "")
    if record:
        recorder = Recorder(Path(record))
        signal.signal(signal.SIGUSR2, recorder.turn)
        threading.setprofile(recorder.note)
        sys.setprofile(recorder.note)
    else:
        from models.pipeline import Pipeline

        made = Pipeline.__init__

        def make(self: Any, *args: Any, **options: Any) -> None:
            made(self, *args, **options)
            self.trunk = Instant(self.trunk)

        Pipeline.__init__ = make  # type: ignore[method-assign]
        signal.signal(signal.SIGUSR1, lambda *_: setattr(Instant, "armed", True))
    from service.__main__ import main as serve

    sys.exit(serve())


if __name__ == "__main__":
    main()
