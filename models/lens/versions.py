"""Which version of a domain's operators a graph was written for."""

import mmap
from pathlib import Path

from models.lens import wire

# Of ModelProto and OperatorSetIdProto.
_SET, _DOMAIN, _VERSION = 8, 1, 2


def read_version(file: Path, domain: str) -> int | None:
    """That of the graph in a file, None where it has none of them.

    Raises WireError for a file that is no graph, and OSError for one that cannot be read.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for outer in wire.list_fields(data, 0, len(data)):
            if outer.number != _SET:
                continue
            name, version = b"", None
            for each in wire.list_fields(data, outer.start, outer.stop):
                if each.number == _DOMAIN:
                    name = data[each.start : each.stop]
                elif each.number == _VERSION:
                    version, _ = wire.read_number(data, each.start, each.stop)
            if name == domain.encode():
                return version
    return None
