"""What an operator sees of the models: those that answer, those that come and go, what failed."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from models.errors import ClozeError
from service.registry.loaded_model import LoadedModel

BundleState = Literal["loading", "ready", "retiring", "removed", "failed"]

# Of these each has a path that somebody chose.
_MOST_FAILED = 16
_UNEXPECTED = "an error of the service's own; it was logged"


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """A bundle and what becomes of it. What is not known before it is loaded is None."""

    name: str | None
    path: str
    precision: str | None
    fingerprint: str | None
    tasks: tuple[str, ...]
    state: BundleState
    reason: str | None
    requests: int
    loaded_at: str | None


class Attempts:
    """The bundles that are being loaded, and the last ones that could not be."""

    def __init__(self) -> None:
        # By where they really lie; replaced whole, never changed.
        self._entries: Mapping[str, InventoryEntry] = {}

    def __iter__(self) -> Iterator[InventoryEntry]:
        return iter(self._entries.values())

    def start(self, precision: str | None, paths: Iterable[Path]) -> None:
        """Bundles are loading, until each has failed or all are forgotten."""
        for path in paths:
            self._note(path, precision, "loading")

    @contextmanager
    def follow(self, path: Path, precision: str | None) -> Iterator[None]:
        """A bundle is loading until the block ends, and has failed if that raises."""
        self._note(path, precision, "loading")
        try:
            yield
        except Exception as error:
            self.fail(path, error)
            raise
        self._forget(path)

    def fail(self, path: Path, error: Exception) -> None:
        """A bundle could not be loaded; the latest sixteen are kept."""
        reason = str(error) if isinstance(error, ClozeError) else _UNEXPECTED
        tried = self._entries.get(os.path.realpath(path))
        self._note(path, tried.precision if tried else None, "failed", reason)
        failed = [entry for entry in self._entries.values() if entry.state == "failed"]
        for entry in failed[:-_MOST_FAILED]:
            self._forget(entry.path)

    def clear(self) -> None:
        """Nothing is loading, and nothing is known to have failed."""
        self._entries = {}

    def _forget(self, path: Path | str) -> None:
        place = os.path.realpath(path)
        self._entries = {key: entry for key, entry in self._entries.items() if key != place}

    def _note(
        self, path: Path, precision: str | None, state: BundleState, reason: str | None = None
    ) -> None:
        entry = InventoryEntry(None, str(path), precision, None, (), state, reason, 0, None)
        self._forget(path)
        self._entries = {**self._entries, os.path.realpath(path): entry}


def describe_model(
    model: LoadedModel, state: BundleState, reason: str | None = None
) -> InventoryEntry:
    """The entry of a model that is or was loaded."""
    bundle = model.pipeline.bundle
    return InventoryEntry(
        name=model.name,
        path=str(bundle.path),
        precision=model.pipeline.precision,
        fingerprint=model.fingerprint,
        tasks=bundle.manifest.tasks,
        state=state,
        reason=reason,
        requests=model.requests,
        loaded_at=datetime.fromtimestamp(model.loaded_at, UTC).isoformat(timespec="seconds"),
    )
