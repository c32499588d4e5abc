"""What this host has to compute with: `python -m service --engines`."""

import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import onnxruntime

from models.bundle.bundle import Bundle
from models.choice import list_choices
from models.engines import CUDA, ENGINES
from models.engines.library import Kernels, find_kernels
from models.errors import ClozeError
from models.machine.limits import count_cores
from models.pipeline import Pipeline
from models.text.encoded import Encoded
from service.registry.bundle_paths import choose_here, open_bundles
from service.settings import Settings

# Texts as long as a sentence, as many as a batch holds; each engine has as many turns.
_LENGTH = 16
_TURNS = 9


def tell_engines(settings: Settings) -> int:
    """Write what there is, and what each bundle reaches with it, on stdout; the exit code."""
    kernels = find_kernels()
    if isinstance(kernels, Kernels):
        half = "with" if kernels.half else "without"
        _write(f"kernels      {kernels.instructions}, {half} products in bfloat16")
    else:
        _write(f"kernels      not here: {kernels.reason}")
    _write(f"onnxruntime  {onnxruntime.__version__}, on the processor")
    if find_spec("openvino") is None:
        _write("openvino     not here: the package is not installed")
    else:
        _write(f"openvino     {version('openvino')}, on the processor")
    lacking = import_module(ENGINES[CUDA]).find_lacking()
    if lacking is not None:
        _write(f"cuda         not here: {lacking}")
    else:
        _write(f"cuda         {onnxruntime.__version__}, on the first GPU")
    _write(f"threads      {settings.threads or count_cores()}")
    failures: list[str] = []

    def refuse(path: object, error: Exception) -> None:
        failures.append(f"error: {error}\n")

    bundles = open_bundles(settings, refuse)
    for bundle in bundles.values():
        try:
            for line in _measure(bundle, settings):
                _write(line)
        except ClozeError as error:
            failures.append(f"error: {error}\n")
    sys.stderr.writelines(failures)
    return 1 if failures else 0


def _measure(bundle: Bundle, settings: Settings) -> Iterator[str]:
    """A line for each precision and engine: tokens a second, in full batches of short texts."""
    precision = bundle.choose_precision(settings.precision, min_cosine=settings.min_cosine)
    chosen = choose_here(bundle, precision, settings)
    yield ""
    yield f"{bundle.manifest.name}: {precision} by {chosen.engine}, since {chosen.reason}"
    for each, engine in list_choices(bundle, tuple(ENGINES)):
        pipeline = Pipeline(bundle, precision=each, engine=engine, threads=settings.threads)
        count = max(settings.limit_batch(pipeline.choice.batch_tokens) // _LENGTH, 1)
        length = min(_LENGTH, bundle.manifest.max_tokens)
        seconds = _time(pipeline, [length] * count)
        yield f"  {each:5} {engine:12} {length * count / seconds:10,.0f} tokens a second"


def _time(pipeline: Pipeline, lengths: Sequence[int]) -> float:
    """The median of some runs, in seconds."""
    texts = [
        Encoded(
            ids=np.arange(length, dtype=np.int64) % pipeline.manifest.vocabulary_size,
            type_ids=np.zeros(length, np.int64),
        )
        for length in lengths
    ]
    taken = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        pipeline.run_trunk(texts)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
