"""The control groups this process is in, of version 1 and 2, and what their files say.

Knows folders and words, not what they limit: limits.py reads cores out of them, memory.py bytes.
See the kernel's admin-guide/cgroup-v2 and cgroup-v1.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Where proc and sys are; tests have others.
ROOT = Path("/")

_MOUNT = "sys/fs/cgroup"


def find_groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups and of those above, where they may be mounted.

    A container often sees its own group as the root of the mount, under a path of the host's.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        if not controllers:
            mounts = [_MOUNT, f"{_MOUNT}/unified"]
        elif controller in controllers.split(","):
            mounts = [f"{_MOUNT}/{controllers}", f"{_MOUNT}/{controller}"]
        else:
            continue
        # Seen from another namespace, a group outside of it begins with "..": only what is mounted
        # here can be read.
        group = PurePosixPath(*(part for part in path.split("/") if part not in ("", ".", "..")))
        for mount in mounts:
            for folder in (group, *group.parents):
                yield root / mount / folder


def read_words(file: Path) -> list[str]:
    """The words of a file; none where it cannot be read."""
    return _read(file).split()


def _read(file: Path) -> str:
    try:
        # As the system names its files, in any locale: a group may be called anything.
        return os.fsdecode(file.read_bytes())
    except OSError:
        return ""
