"""An engine whose outputs lie elsewhere, as on a GPU: it counts what is fetched from there.

It computes with ONNX Runtime all the same. Put it under a name into `models.engines.ENGINES`.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.engines import HostOutput, Output, Role, Session, Spin
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.engines.output import Floats, Indices, RowPooling

NAME = "remote"
MODULE = __name__


class RemoteOutput:
    """Rows that are counted, by the way they were asked for, when they are."""

    def __init__(self, output: HostOutput, fetched: "Counter[str]") -> None:
        self._output = output
        self._fetched = fetched

    @property
    def shape(self) -> tuple[int, ...]:
        return self._output.shape

    def take(self, places: Indices) -> Floats:
        return self._count("take", self._output.take(places))

    def pool(
        self, how: RowPooling, starts: Indices, lengths: Indices, ahead: Indices | None = None
    ) -> Floats:
        return self._count("pool", self._output.pool(how, starts, lengths, ahead))

    def whole(self) -> Floats:
        return self._count("whole", self._output.whole())

    def _count(self, how: str, rows: Floats) -> Floats:
        self._fetched[how] += len(rows)
        return rows


class RemoteSession:
    """A session of the engine; `fetched` are the rows of its outputs that came over, by way."""

    def __init__(self, file: Path, role: Role) -> None:
        self.role = role
        self.threads = 0
        self.spin = False
        self.fetched: Counter[str] = Counter()
        self._session = OnnxRuntimeSession(file, threads=1)

    @property
    def width(self) -> int | None:
        return self._session.width

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Output:
        return RemoteOutput(self._session.run(feeds), self.fetched)

    def stop(self) -> None:
        self._session.stop()

    def reopen(self) -> None:
        self._session.reopen()


def open_session(file: Path, role: Role, *, threads: int, spin: Spin, precision: str) -> Session:
    """It has no threads of this machine, whatever is wished for, and computes in fp32."""
    del threads, spin, precision
    return RemoteSession(file, role)
