"""A graph of a bundle that is looked into: read only while its files are those that were exported.

Owns when their hashes are computed: when they are first looked into, and after somebody wrote into
them. Knows nothing of what is looked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from models.bundle.bundle import Bundle
from models.errors import BundleDamaged
from models.lens.graph import Graph, open_graph
from models.lens.mapped import MappedFiles
from models.lens.wire import WireError


class GraphFile:
    """The file of a graph, and those beside it that its weights are in."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle = bundle
        self.name = name
        self._files: MappedFiles | None = None

    @property
    def changed(self) -> bool:
        """Whether somebody wrote into what was opened last, so that it may not be read any more."""
        return self._files is None or self._files.changed

    @contextmanager
    def open(self) -> Iterator[Graph]:
        """The graph, of files that are right. Raises BundleDamaged for others.

        Not for two threads at once.
        """
        file = self.bundle.file(self.name)
        try:
            with open_graph(file) as graph:
                if self._files is None or self._files.changed or self._files.replaced:
                    self._files = self._check(graph)
                yield graph
        except (WireError, OSError, ValueError, RecursionError) as error:
            raise BundleDamaged(f"{file} cannot be read ({error}); export it again") from error

    def _check(self, graph: Graph) -> MappedFiles:
        beside = {weight.file for weight in graph.weights.values() if weight.file}
        unknown = sorted(beside - set(self.bundle.manifest.files))
        if unknown:
            raise BundleDamaged(
                f"{self.bundle.file(self.name)} has weights in {unknown[0]!r}, which the manifest "
                "does not list; export the bundle again"
            )
        names = [self.name, *sorted(beside)]
        # What is written into them from now on is noticed.
        files = MappedFiles([self.bundle.file(name) for name in names])
        for name in names:
            self.bundle.check(name)
        return files
