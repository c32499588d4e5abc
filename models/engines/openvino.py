"""The engine OpenVINO, on CPUs: the standard graphs, compiled by a library of the extra `openvino`.

Owns its options, chosen by measurement: one stream, since a batch has all threads to itself; of the
code that it compiles for shapes it keeps little, since hardly a shape comes twice and each that is
kept takes memory. fp32 is computed in fp32: by itself it would take bfloat16 where there are units
for it.
"""

import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from models.engines import onnx_runtime
from models.engines.output import HostOutput
from models.engines.session import Role, Session, Spin
from models.errors import BundleDamaged, RunStopped
from models.machine.limits import count_cores

_SHAPES_KEPT = 64


def open_session(
    file: Path, role: Role, *, threads: int, spin: Spin, precision: str = "fp32"
) -> Session:
    """A trunk compiled for so many threads, 0: one a core; heads are ONNX Runtime's, on one.

    In `precision` bf16 its products are, whatever its weights are; in all others they are fp32.
    """
    if role == "head":
        return onnx_runtime.open_session(file, role, threads=threads, spin=spin)
    return OpenVinoSession(file, threads=threads or count_cores(), half=precision == "bf16")


def has_half() -> bool:
    """Whether this processor has units for products in bfloat16 that OpenVINO knows."""
    return "BF16" in _open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def _open_core() -> Any:
    return openvino.Core()


class OpenVinoSession:
    """One graph, ready to run. `run` and `stop` may be called from any thread."""

    spin = False

    def __init__(self, file: Path, *, threads: int, half: bool = False) -> None:
        self.threads = threads
        self._file = file
        self._half = half
        self._changing = threading.Lock()
        self._under_way: set[Any] = set()
        self._stopped: set[Any] = set()
        self._idle: list[Any] = []  # requests of the model below
        self._model: Any = None
        self._inputs: frozenset[str] = frozenset()
        self.reopen()

    def reopen(self) -> None:
        """Compile the graph anew. Runs meanwhile go on with the old one."""
        with self._changing:
            self._model, self._idle = None, []
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._half else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(self.threads),
            "CPU_RUNTIME_CACHE_CAPACITY": str(_SHAPES_KEPT),
        }
        try:
            core = _open_core()
            model = core.compile_model(core.read_model(str(self._file)), "CPU", options)
            inputs = frozenset(each.any_name for each in model.inputs)
        except Exception as error:
            raise BundleDamaged(
                f"{self._file} cannot be loaded by OpenVINO {openvino.__version__}: "
                f"{_find_reason(error)}"
            ) from error
        with self._changing:
            self._model, self._inputs = model, inputs

    @property
    def width(self) -> int | None:
        """The last dimension of the graph's only output; None where the graph leaves it open."""
        last = self._model.outputs[0].partial_shape[-1]
        return int(last.get_length()) if last.is_static else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> HostOutput:
        """The graph's only output. Feeds that the graph has no input for are left out.

        Raises RunStopped where `stop` was called meanwhile.
        """
        with self._changing:
            model, inputs = self._model, self._inputs
            request = self._idle.pop() if self._idle else model.create_infer_request()
            self._under_way.add(request)
        used = {name: value for name, value in feeds.items() if name in inputs}
        try:
            # Without sharing it writes into tensors as large as the first batch's, and fails. What
            # comes out is a copy: its own is overwritten by the next run.
            output: NDArray[np.float32] = request.infer(used, share_inputs=True)[0]
        except Exception as error:
            if request in self._stopped:
                raise RunStopped("the run was stopped before its end") from error
            raise
        finally:
            with self._changing:
                self._under_way.discard(request)
                self._stopped.discard(request)
                if model is self._model:
                    self._idle.append(request)
        return HostOutput(output)

    def stop(self) -> None:
        """End every run under way with RunStopped; returns at once, and later runs work again."""
        with self._changing:
            for request in self._under_way:
                self._stopped.add(request)
                request.cancel()


def _find_reason(error: Exception) -> str:
    """What OpenVINO says of it, without the places in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]
