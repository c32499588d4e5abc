"""The engine CUDA: ONNX Runtime on a GPU, by the package onnxruntime-gpu.

Hidden states stay on the device: rows are gathered and pooled there (device_output.py), and heads
computed there, so that of a batch only what is asked for crosses over. Owns the options: what is
fp32 is computed in fp32 and not in TensorFloat-32, by which a product has a thousandth of an error.
Everything but the device's name is the same on a processor, where it is tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.engines.device_output import DeviceOutput, Gatherer
from models.engines.onnx_runtime import Runs, make_options
from models.engines.session import PACKED_ENDS, PACKED_OFFSETS, Role, Session, Spin
from models.errors import BundleDamaged, OperatorError
from models.lens.joined import join_weights

_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """Where graphs run: the provider by ONNX Runtime's name, its options, and its memory's name."""

    provider: str
    memory: str
    options: tuple[tuple[str, str], ...] = ()

    def open(self, graph: str | bytes) -> Any:
        """A session there. Raises OperatorError where ONNX Runtime would take the processor."""
        session = onnxruntime.InferenceSession(
            graph,
            make_options(1, spin=False),
            providers=[(self.provider, dict(self.options))],
        )
        if session.get_providers()[0] != self.provider:
            raise OperatorError(
                f"ONNX Runtime {onnxruntime.__version__} cannot use the device: {self.provider} "
                "does not load; see that the driver and the CUDA libraries of its version are there"
            )
        return session


GPU = Device(_PROVIDER, "cuda", (("use_tf32", "0"),))


@cache
def find_gatherer(device: Device) -> Gatherer:
    """What gathers and pools on a device: one for all sessions there, each takes memory of it."""
    return Gatherer(device.open)


def open_session(
    file: Path, role: Role, *, threads: int, spin: Spin, precision: str = "fp32"
) -> Session:
    """A trunk or a head on the GPU. Raises OperatorError, too, where there is none."""
    lacking = find_lacking()
    if lacking is not None:
        raise OperatorError(f"{file} cannot be run by CUDA: {lacking}")
    return DeviceSession(file, GPU)


@cache
def find_lacking() -> str | None:
    """What is lacking for this engine, None for nothing: a GPU is tried, and has to answer."""
    if _PROVIDER not in onnxruntime.get_available_providers():
        return (
            "this ONNX Runtime is the one for processors; put the package onnxruntime-gpu in its "
            "place (Cloze's extra gpu)"
        )
    # Libraries that came as packages beside it are loaded by their place.
    onnxruntime.preload_dlls()
    try:
        rows = np.ones((2, 1), np.float32)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(rows, GPU.memory, 0)
        DeviceOutput(value, find_gatherer(GPU)).take(np.zeros(1, np.int64))
    except Exception as error:
        return str(error).splitlines()[0]
    return None


class DeviceSession:
    """One graph on a device. `run` and `stop` may be called from any thread."""

    spin = False
    # Of the machine's: it waits for the device.
    threads = 1

    def __init__(self, file: Path, device: Device) -> None:
        self._file = file
        self._device = device
        self._runs = Runs()
        self._session: Any = None
        self._inputs: frozenset[str] = frozenset()
        self._output = ""
        self.reopen()

    def reopen(self) -> None:
        """Load the graph anew. Runs meanwhile fail, and so do later ones if this raises."""
        self._session = None
        try:
            session = self._device.open(join_weights(self._file) or str(self._file))
            find_gatherer(self._device)
        except OperatorError:
            raise
        except Exception as error:
            raise BundleDamaged(
                f"{self._file} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._inputs = frozenset(node.name for node in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self._session = session

    @property
    def width(self) -> int | None:
        """The last dimension of the graph's only output; None where the graph leaves it open."""
        shape = self._session.get_outputs()[0].shape
        last = shape[-1] if shape else None
        return last if isinstance(last, int) else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> DeviceOutput:
        """The graph's only output, on the device. Feeds that it has no input for are left out.

        Raises RunStopped where `stop` was called meanwhile.
        """
        session = self._session
        given = dict(feeds)
        if PACKED_OFFSETS in self._inputs:
            given[PACKED_OFFSETS], given[PACKED_ENDS] = lay_cells(feeds["starts"])
        # Held until the run has ended: a binding does not.
        used = {
            name: np.ascontiguousarray(value)
            for name, value in given.items()
            if name in self._inputs
        }
        binding = session.io_binding()
        for name, value in used.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output(self._output, self._device.memory, 0)
        with self._runs.begin() as options:
            session.run_with_iobinding(binding, options)
        return DeviceOutput(binding.get_outputs()[0], find_gatherer(self._device))

    def stop(self) -> None:
        """End every run under way with RunStopped; returns at once, and later runs work again."""
        self._runs.stop()


def lay_cells(starts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What PackedMultiHeadAttention asks for: cells of a padded grid, and where texts end.

    `starts` [texts + 1] ends with the number of tokens. The first, [texts, longest], holds the
    cells of the tokens in the stream's order, and after them the empty ones (ONNX Runtime,
    ContribOperators, com.microsoft.PackedMultiHeadAttention).
    """
    lengths = np.diff(starts)
    longest = int(lengths.max())
    cells = np.arange(len(lengths) * longest, dtype=np.int32)
    filled = (np.arange(longest) < lengths[:, None]).ravel()
    offsets = np.concatenate([cells[filled], cells[~filled]])
    return offsets.reshape(len(lengths), longest), starts.astype(np.int32)
