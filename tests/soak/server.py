"""`python -m service` with faults from outside: what machines, drivers and texts do to it.

    python -m tests.soak.server ENDLESS STATUS [the service's arguments]

SIGUSR1 kills the session of a trunk or head, SIGUSR2 makes it hang in a run that can be stopped,
SIGALRM holds the next batch in a call that nothing can stop, for some seconds. An item with the
marker cannot be computed. SIGVTALRM writes what the service holds to the file STATUS. Nothing of
the service is replaced: its own classes are wrapped before its own command line runs.
"""

import gc
import json
import os
import random
import runpy
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from models.engines.onnx_runtime import OnnxRuntimeSession
from models.heads import Job
from models.pipeline import Pipeline
from models.text.packing import Extent
from service.registry.loaded_model import Graphed, LoadedModel

MARKER = "zzpoisonzz"
KILL = signal.SIGUSR1
HANG = signal.SIGUSR2
# Of no timer: Macs have no signals but these to spare.
HOLD = signal.SIGALRM
TELL = signal.SIGVTALRM
# What each of its own lines in the service's log begins with.
SAID = '{"event": "soak: '
# After a thread is given up it stays stuck for a while, and then finds that it was.
_HELD_LONGER_S = 3.0


class Faults:
    """What can go wrong, on demand."""

    def __init__(self, endless: Path, status: Path) -> None:
        self._endless = OnnxRuntimeSession(endless, threads=1)
        self._status = status
        self._models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        self._newest: dict[str, weakref.ref[LoadedModel]] = {}
        self._chance = random.Random(endless.stat().st_size)
        self._held: list[float] = []
        self._hold_s = float(os.environ.get("CLOZE_STALL_S", "30")) + _HELD_LONGER_S

    def install(self) -> None:
        """Wrap what the service makes its models with, and listen to signals."""
        make, wrap = LoadedModel.__init__, Graphed.__init__

        def make_noted(model: LoadedModel, *arguments: Any, **named: Any) -> None:
            make(model, *arguments, **named)
            self._models.add(model)
            self._newest[model.name] = weakref.ref(model)

        def wrap_damaged(graphed: Graphed, pipeline: Pipeline) -> None:
            wrap(graphed, pipeline)
            compute = graphed.compute

            def compute_damaged(jobs: Sequence[Job]) -> Extent:
                self._damage(graphed, jobs)
                return compute(jobs)

            graphed.compute = compute_damaged

        LoadedModel.__init__ = make_noted  # type: ignore[method-assign, assignment]
        Graphed.__init__ = wrap_damaged  # type: ignore[method-assign, assignment]
        for number, act in (
            (KILL, self._kill),
            (HANG, self._hang),
            (HOLD, self._hold),
            (TELL, self._tell),
        ):
            signal.signal(number, _ignore_arguments(act))

    def _damage(self, graphed: Graphed, jobs: Sequence[Job]) -> None:
        # A text that hangs alone is told that it did: only those that share a batch are innocent.
        if len(jobs) > 1 and self._held:
            seconds = self._held.pop()
            _say_done("held", graphed.pipeline, f"{len(jobs)} texts")
            time.sleep(seconds)
            _say("let go")
        if any(_is_poison(job.item) for job in jobs):
            raise ValueError("a text that cannot be computed")

    def _kill(self) -> None:
        pipeline, part, session = self._choose()
        session._session = None
        _say_done("killed", pipeline, part)

    def _hang(self) -> None:
        pipeline, part, session = self._choose()
        session._session, session._inputs = self._endless._session, self._endless._inputs
        _say_done("hung", pipeline, part)

    def _hold(self) -> None:
        self._held.append(self._hold_s)

    def _choose(self) -> tuple[Pipeline, str, OnnxRuntimeSession]:
        """A session of a model: every second time its trunk."""
        models = [model for found in self._newest.values() if (model := found()) is not None]
        pipeline = self._chance.choice(models).pipeline
        heads = [head for head in pipeline.heads if head._session is not None]
        head = self._chance.choice(heads)
        if self._chance.random() < 0.5 or head._session is None:
            return pipeline, "trunk", cast("OnnxRuntimeSession", pipeline.trunk)
        part = f"{head.task.name} {head.entry.name}"
        return pipeline, part, cast("OnnxRuntimeSession", head._session)

    def _tell(self) -> None:
        gc.collect()
        content = {
            "models": [
                {
                    "name": model.name,
                    "fingerprint": model.fingerprint,
                    "state": str(model.batcher.state),
                    "requests": model.requests,
                    "queued_texts": model.batcher.queued_texts,
                    "queued_s": model.batcher.queued_s,
                    "stuck": model.batcher.stuck,
                }
                for model in self._models
            ],
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }
        written = self._status.with_suffix(".partial")
        written.write_text(json.dumps(content), encoding="utf-8")
        written.replace(self._status)


def _is_poison(item: Any) -> bool:
    texts = item if isinstance(item, tuple) else (item,)
    return any(isinstance(text, str) and MARKER in text for text in texts)


def _ignore_arguments(act: Callable[[], None]) -> Callable[..., None]:
    return lambda *_: act()


def _say_done(what: str, pipeline: Pipeline, part: str) -> None:
    """Which model was damaged; the driver reads it."""
    name, fingerprint = pipeline.manifest.name, pipeline.bundle.fingerprint
    _say(what, done=True, model=name, fingerprint=fingerprint, part=part)


def _say(event: str, **fields: Any) -> None:
    """A line in the service's log; written at once, since a signal may come amid another line."""
    line = {"event": f"soak: {event}", "at": time.time(), **fields}
    os.write(2, json.dumps(line).encode() + b"\n")


def main() -> None:
    """Damage the service, then start it as its own command line does."""
    endless, status, *arguments = sys.argv[1:]
    Faults(Path(endless), Path(status)).install()
    sys.argv = ["service", *arguments]
    runpy.run_module("service", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
