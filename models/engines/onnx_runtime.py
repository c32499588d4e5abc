"""A graph in ONNX Runtime, on CPU threads of its own.

Owns the session's options, each chosen by measurement (benchmarks/, 2 cores, MiniLM, fp32):
masked cells leave denormal probabilities behind, on which attention runs slower, so they count
as zero; the fused SkipLayerNormalization kernel is several times slower than the two nodes it
replaces; a thread that spins for 200 microseconds bridges the gap between two nodes, and
then gives its core back.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.errors import BundleDamaged

_STILL = {
    "session.set_denormal_as_zero": "1",
    "session.intra_op.allow_spinning": "0",
}
_SPINNING = {
    "session.set_denormal_as_zero": "1",
    "session.intra_op.spin_duration_us": "200",
    "session.force_spinning_stop": "1",
}


class Session:
    """One graph, ready to run. `run` may be called from any thread."""

    def __init__(self, file: Path, *, threads: int, spin: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for key, value in (_SPINNING if spin else _STILL).items():
            options.add_session_config_entry(key, value)
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:
            raise BundleDamaged(
                f"{file} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        self._inputs = frozenset(node.name for node in self._session.get_inputs())

    @property
    def width(self) -> int | None:
        """The last dimension of the graph's only output; None where the graph leaves it open."""
        shape = self._session.get_outputs()[0].shape
        last = shape[-1] if shape else None
        return last if isinstance(last, int) else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The graph's only output. Feeds that the graph has no input for are left out."""
        used = {name: value for name, value in feeds.items() if name in self._inputs}
        output: NDArray[np.float32] = self._session.run(None, used)[0]
        return output
