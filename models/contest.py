"""The fastest of the engines that run a precision of a bundle on this machine, by trying them.

Each computes the bundle's golden answers: one that answers otherwise than it should is out, and
the fastest of the others is kept for this machine, so that the next start need not measure. One
of them is in memory at a time. The precision is never chosen here.
"""

import gc
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.bundle.bundle import Bundle
from models.choice import Choice
from models.engines import Spin
from models.engines.library import find_kernels
from models.engines.limit import ends_within
from models.errors import OperatorError
from models.golden import check_golden, list_golden_batches
from models.machine.allocator import return_freed_memory
from models.machine.limits import count_cores
from models.pipeline import Pipeline

_ROUNDS = 3
# An engine has to be faster by so much to be taken before one that comes earlier in the order.
_WORTH = 1.05
_PACKAGES = ("onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Contest:
    """What each engine reached, in tokens a second, and why one could not take part."""

    speeds: Mapping[str, float]
    refused: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(
            f"{engine} {speed:,.0f}" for engine, speed in sorted(self.speeds.items(), key=_by_speed)
        )


def choose_fastest(
    bundle: Bundle,
    precision: str,
    candidates: Sequence[Choice],
    *,
    threads: int = 0,
    spin: Spin = "auto",
    folder: Path | None = None,
    load_timeout_s: float | None = None,
) -> tuple[Choice, Contest | None]:
    """The fastest of the candidates, and how it was found where it had to be.

    `candidates` stand in the order in which they are taken where they are as fast. What is found
    is kept in `folder`; None: nowhere. Raises the OperatorError of the first where none can be
    run or all answer wrongly.
    """
    if len(candidates) < 2:
        return candidates[0], None
    file = None
    if folder is not None:
        file = folder / f"engine-{_describe(bundle, precision, candidates, threads, spin)}.json"
        kept = _read(file, candidates)
        if kept is not None:
            return kept, None
    options = {"threads": threads, "spin": spin, "load_timeout_s": load_timeout_s}
    contest = _hold(bundle, precision, candidates, options)
    best = max(contest.speeds.values())
    found = next(
        each for each in candidates if contest.speeds.get(each.engine, 0.0) * _WORTH >= best
    )
    if file is not None:
        _keep(file, found, contest)
    return replace(found, reason=f"it is the fastest here, in tokens a second: {contest}"), contest


def _hold(
    bundle: Bundle, precision: str, candidates: Sequence[Choice], options: Mapping[str, Any]
) -> Contest:
    speeds: dict[str, float] = {}
    errors: dict[str, OperatorError] = {}
    for choice in candidates:
        try:
            speeds[choice.engine] = _try_one(bundle, precision, choice, options)
        except OperatorError as error:
            errors[choice.engine] = _without_frames(error)
        gc.collect()
        return_freed_memory()
    if not speeds:
        raise errors[candidates[0].engine]
    return Contest(speeds, {engine: error.message for engine, error in errors.items()})


def _without_frames(error: OperatorError) -> OperatorError:
    """The error alone: what its frames hold, a loaded model, would stay beside the next one."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _try_one(bundle: Bundle, precision: str, choice: Choice, options: Mapping[str, Any]) -> float:
    pipeline = Pipeline(bundle, precision=precision, engine=choice, **options)
    with ends_within(options["load_timeout_s"], pipeline.stop, bundle.path):
        return _time(pipeline)


def _time(pipeline: Pipeline) -> float:
    """Tokens of the golden answers a second, once they have come out right."""
    with pipeline.bundle.blamed():
        check_golden(pipeline)
        batches = list_golden_batches(pipeline)
        taken = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            for batch in batches:
                pipeline.run_trunk([job.encoded for job in batch])
            taken.append(time.perf_counter() - began)
    return sum(job.tokens for batch in batches for job in batch) / min(taken)


def _describe(
    bundle: Bundle, precision: str, candidates: Sequence[Choice], threads: int, spin: Spin
) -> str:
    """Sixteen hex digits of all that the answer depends on."""
    kernels = find_kernels()
    told = {
        "bundle": bundle.fingerprint,
        "precision": precision,
        "candidates": [(each.engine, each.trunk) for each in candidates],
        "threads": threads or count_cores(),
        "spin": spin,
        "processor": [platform.machine(), _read_processor()],
        "kernels": str(kernels),
        "packages": {name: _find_version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _read_processor() -> str:
    """What the system calls the processor, with what it can do."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        told = [each for each in lines if each.startswith(("model name", "flags", "Features"))]
        return "\n".join(sorted(set(told)))
    return platform.processor()


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(file: Path, candidates: Sequence[Choice]) -> Choice | None:
    """What was kept, None where nothing was, or nothing that can be used."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        content: Any = json.loads(file.read_bytes())
        speeds = {str(name): float(speed) for name, speed in content["speeds"].items()}
        for each in candidates:
            if each.engine == content["engine"]:
                told = Contest(speeds, {})
                reason = f"it was found the fastest here, in tokens a second: {told}"
                return replace(each, reason=reason)
    return None


def _keep(file: Path, found: Choice, contest: Contest) -> None:
    """Write it whole or not at all; where that cannot be, the next start measures again."""
    content = {"engine": found.engine, "speeds": dict(contest.speeds)}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        Path(name).replace(file)


def _by_speed(entry: tuple[str, float]) -> float:
    return -entry[1]
