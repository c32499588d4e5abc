"""How many cores are ours: those of the affinity mask, less what a container's CPU quota takes.

A quota is read from cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us), for the group of this process
and those above it; see "CPU" in the kernel's admin-guide/cgroup-v2 and scheduler/sched-bwc.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = "sys/fs/cgroup"


def count_cores(root: Path = Path("/")) -> int:
    """The threads that can run at once here, at least 1.

    Part of a core is rounded down: a thread more than the quota holds is stopped for the rest of
    every period, and the others with it. `root` holds proc and sys.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.floor(min([allowed, *_read_quotas(root)])))


def _read_quotas(root: Path) -> Iterator[float]:
    """The quotas in cores, of every group that has one."""
    for folder in _find_groups(root):
        words = _read_words(folder / "cpu.max")
        if not words:
            words = [
                *_read_words(folder / "cpu.cfs_quota_us"),
                *_read_words(folder / "cpu.cfs_period_us"),
            ]
        try:
            quota, period = (int(word) for word in words)
        except ValueError:  # no such files, or "max": no quota
            continue
        if quota > 0 and period > 0:
            yield quota / period


def _find_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's groups and of those above, where they may be mounted.

    A container often sees its own group as the root of the mount, under a path of the host's.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mounts = [_MOUNT, f"{_MOUNT}/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [f"{_MOUNT}/{controllers}", f"{_MOUNT}/cpu"]
        else:
            continue
        group = Path(path.lstrip("/"))
        for mount in mounts:
            for part in (group, *group.parents):
                yield root / mount / part


def _read_words(file: Path) -> list[str]:
    return _read(file).split()


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
