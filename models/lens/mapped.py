"""Files that are mapped for as long as they are used, and whether somebody writes into them.

Where a file is made shorter while it is mapped, reading what it had ends the process. One that is
replaced by another is no matter: what is mapped stays as it was.
"""

import os
import weakref
from collections.abc import Iterable, Sequence
from io import BufferedReader
from pathlib import Path


class MappedFiles:
    """Files as they were when this was made. Raises OSError where one cannot be opened."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._streams = [file.open("rb") for file in files]
        weakref.finalize(self, _close, self._streams)
        self._before = [_describe(os.fstat(stream.fileno())) for stream in self._streams]

    @property
    def changed(self) -> bool:
        """Whether somebody has written into one of them since."""
        return [_describe(os.fstat(stream.fileno())) for stream in self._streams] != self._before

    @property
    def replaced(self) -> bool:
        """Whether another file stands where one of them did, or none."""
        try:
            return [_describe(file.stat()) for file in self._files] != self._before
        except OSError:
            return True


def _describe(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _close(streams: Iterable[BufferedReader]) -> None:
    for stream in streams:
        stream.close()
