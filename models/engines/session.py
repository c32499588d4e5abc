"""The contract of an engine, and how one is chosen.

An engine is a module with an `open_session` of the shape of `Opener`, and a row in `ENGINES`. It
is imported when it is chosen: what the others need is neither loaded nor missed. Knows no engine's
options and no graph's inputs.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from numpy.typing import NDArray

from models.engines.output import Output
from models.errors import SettingsError

# What a graph is for: the trunk is run by every batch, a head after it, over a part of its rows.
Role = Literal["trunk", "head"]
# Whether threads that wait for each other keep their cores: auto, where the cores are ours.
Spin = Literal["auto", "on", "off"]

ENGINE = "onnxruntime"
KERNELS: Final = "kernels"
OPENVINO: Final = "openvino"
CUDA: Final = "cuda"
ENGINES = {
    KERNELS: "models.engines.kernels",
    ENGINE: "models.engines.onnx_runtime",
    OPENVINO: "models.engines.openvino",
    CUDA: "models.engines.cuda",
}
# Inputs of a graph in the packed form, which the engine makes of the texts' starts.
PACKED_OFFSETS: Final = "token_offset"
PACKED_ENDS: Final = "cumulative_sequence_length"


class Session(Protocol):
    """One graph, ready to run. Every method may be called from any thread, also while it runs."""

    @property
    def threads(self) -> int:
        """How many threads of the machine compute a run."""

    @property
    def spin(self) -> bool:
        """Whether they keep their cores while they wait for each other."""

    @property
    def width(self) -> int | None:
        """The last dimension of the graph's only output; None where the graph leaves it open."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Output:
        """The graph's only output, computed when this returns; it may lie in the engine's memory.

        Feeds that the graph has no input for are left out. Raises RunStopped where `stop` was
        called meanwhile, and whatever the engine raises for what it cannot compute.
        """

    def stop(self) -> None:
        """End every run under way with RunStopped; returns at once, and later runs work again.

        As soon as the engine can: what one node computes may be computed to its end. A run that
        begins later is not stopped.
        """

    def reopen(self) -> None:
        """Load the graph anew. Runs meanwhile fail, and so do later ones if this raises."""


class Opener(Protocol):
    """The one function that an engine's module has to have."""

    def __call__(
        self, file: Path, role: Role, *, threads: int, spin: Spin, precision: str
    ) -> Session:
        """The graph in `file`, loaded. Raises BundleDamaged where it cannot be.

        `threads` and `spin` are wishes for the trunk; 0: as many as the engine thinks best. A head
        takes what does not stand in the trunk's way, whatever is wished for. `precision` is what
        the trunk is computed in, for engines that compute a graph in another than its own.
        """


def open_session(
    file: Path,
    role: Role,
    *,
    engine: str = ENGINE,
    threads: int = 0,
    spin: Spin = "auto",
    precision: str = "fp32",
) -> Session:
    """The graph in `file`, loaded by the engine of that name.

    Raises SettingsError for an engine there is not, or whose packages are not installed, and
    BundleDamaged where the graph cannot be loaded.
    """
    opener = _find_opener(engine)
    return opener(file, role, threads=threads, spin=spin, precision=precision)


def _find_opener(engine: str) -> Opener:
    module = ENGINES.get(engine)
    if module is None:
        raise SettingsError(
            f"{engine!r} is not an engine; choose from {', '.join(ENGINES)}", param="engine"
        )
    try:
        opener: Opener = import_module(module).open_session
    except ImportError as error:
        raise SettingsError(
            f"{engine!r} cannot be loaded here ({error}); install what it needs, "
            "or choose another engine",
            param="engine",
        ) from error
    return opener
