"""The engine ONNX Runtime, on CPUs: a graph on threads of its own.

Owns how many threads, whether they spin, and the session's options, each chosen by measurement
(benchmarks/, 2 cores, MiniLM, fp32): masked cells leave denormal probabilities behind, on which
attention runs slower, so they count as zero; the fused SkipLayerNormalization kernel is several
times slower than the two nodes it replaces; a thread that spins for 200 microseconds bridges the
gap between two nodes, and then gives its core back; plans of memory are not kept, since hardly a
shape comes twice.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.engines.output import HostOutput
from models.engines.session import Role, Session, Spin
from models.errors import BundleDamaged, RunStopped
from models.lens.joined import join_weights
from models.machine.cgroups import ROOT
from models.machine.limits import count_cores, owns_cores

_STILL = {
    "session.set_denormal_as_zero": "1",
    "session.intra_op.allow_spinning": "0",
}
_SPINNING = {
    "session.set_denormal_as_zero": "1",
    "session.intra_op.spin_duration_us": "200",
    "session.force_spinning_stop": "1",
}


def open_session(
    file: Path,
    role: Role,
    *,
    threads: int,
    spin: Spin,
    precision: str = "fp32",
    library: Path | None = None,
) -> Session:
    """The graph on its own threads: of a trunk so many, 0: one a core; of a head always one.

    A head's thread does not spin: a second pool would fight the trunk's for the same cores. With
    a `library` the graph may have its operators. The `precision` is the graph's own.
    """
    if role == "head":
        return OnnxRuntimeSession(file, threads=1)
    threads = threads or count_cores()
    spins = decide_spin(spin, threads)
    return OnnxRuntimeSession(file, threads=threads, spin=spins, library=library)


def decide_spin(spin: Spin, threads: int, root: Path = ROOT) -> bool:
    """Whether so many threads, while they wait for each other, keep their cores busy.

    By itself where the cores are theirs: no more threads than cores, and no quota that could run
    out. What else runs here at the moment is not asked: it says nothing of the hours to come, and
    two replicas that were started together would decide by chance.
    """
    if spin != "auto":
        return spin == "on"
    return threads > 1 and owns_cores(threads, root)


def make_options(threads: int, *, spin: bool) -> onnxruntime.SessionOptions:
    """The options of a session on so many threads, whichever graph it runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # What goes wrong is raised; lines of its own on stderr would stand between ours.
    options.log_severity_level = 4
    # Kept patterns are of no use where hardly a shape comes twice. The arena stays: without it
    # each run asks the system for its memory anew, and a batch takes half as long again.
    options.enable_mem_pattern = False
    for key, value in (_SPINNING if spin else _STILL).items():
        options.add_session_config_entry(key, value)
    return options


class Runs:
    """The runs under way of one session, which can be stopped. Safe from any thread."""

    def __init__(self) -> None:
        self._options: set[onnxruntime.RunOptions] = set()
        self._changing = threading.Lock()

    @contextmanager
    def begin(self) -> Iterator[onnxruntime.RunOptions]:
        """The options of a run inside; RunStopped is raised where `stop` was called meanwhile."""
        options = onnxruntime.RunOptions()
        with self._changing:
            self._options.add(options)
        try:
            yield options
        except Exception as error:
            if options.terminate:
                raise RunStopped("the run was stopped before its end") from error
            raise
        finally:
            with self._changing:
                self._options.discard(options)

    def stop(self) -> None:
        """End those under way; one that begins later is not stopped."""
        with self._changing:
            for options in self._options:
                options.terminate = True


class OnnxRuntimeSession:
    """One graph, ready to run. `run` and `stop` may be called from any thread."""

    def __init__(
        self, file: Path, *, threads: int, spin: bool = False, library: Path | None = None
    ) -> None:
        self._library = library
        self.threads = threads
        self.spin = spin
        self._file = file
        self._runs = Runs()
        self._session: Any = None
        self._inputs: frozenset[str] = frozenset()
        self.reopen()

    def _load(self) -> Any:
        options = make_options(self.threads, spin=self.spin)
        try:
            graph: str | bytes = str(self._file)
            if self._library is not None:
                options.register_custom_ops_library(str(self._library))
                graph = join_weights(self._file) or graph
            return onnxruntime.InferenceSession(
                graph,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:
            # A graph with operators of ours has its weights in the standard one's file.
            beside = self._file.with_name(self._file.name.replace(".kernels", ""))
            told = self._file if self._library is None else f"{self._file} with {beside.name}"
            raise BundleDamaged(
                f"{told} cannot be loaded by ONNX Runtime {onnxruntime.__version__}: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def reopen(self) -> None:
        """Load the graph anew. Runs meanwhile fail, and so do later ones if this raises.

        A run that hangs keeps the old graph in memory; else that is gone before the new one comes.
        """
        self._session = None
        session = self._load()
        self._inputs = frozenset(node.name for node in session.get_inputs())
        self._session = session

    @property
    def width(self) -> int | None:
        """The last dimension of the graph's only output; None where the graph leaves it open."""
        shape = self._session.get_outputs()[0].shape
        last = shape[-1] if shape else None
        return last if isinstance(last, int) else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> HostOutput:
        """The graph's only output. Feeds that the graph has no input for are left out.

        Raises RunStopped where `stop` was called meanwhile.
        """
        used = {name: value for name, value in feeds.items() if name in self._inputs}
        with self._runs.begin() as options:
            output: NDArray[np.float32] = self._session.run(None, used, options)[0]
        return HostOutput(output)

    def stop(self) -> None:
        """End every run under way with RunStopped; returns at once, and later runs work again.

        A run ends before its next node, so after milliseconds: what one node computes is not
        interrupted, nor is a run that computes its last. One that begins later is not stopped.
        """
        self._runs.stop()
