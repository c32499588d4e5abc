"""What this process may use: cores, and bytes of memory.

Both are limited by the affinity mask and by the control groups of a container, read from cgroup
v2 (cpu.max, memory.max) and v1 (cpu.cfs_quota_us, memory.limit_in_bytes), for the group of this
process and those above it; see the kernel's admin-guide/cgroup-v2, cgroup-v1/memory and
scheduler/sched-bwc. A cpuset needs no reading: the kernel takes its cores out of the mask.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

# Whether threads that wait for each other keep their cores: auto, where the cores are ours.
Spin = Literal["auto", "on", "off"]

_ROOT = Path("/")
_MOUNT = "sys/fs/cgroup"
# What version 1 says where there is no limit: the largest number of pages there can be.
_UNLIMITED_BYTES = 1 << 62


def count_cores(root: Path = _ROOT) -> int:
    """The threads that can run at once here, at least 1.

    A quota is rounded to whole cores, half a one up: a thread more than it holds is stopped for the
    rest of each period, and the others with it, but from half a core on it computes more before
    that than is lost then (benchmarks/cores.py). `root` holds proc and sys.
    """
    return max(1, math.floor(min([_count_allowed(), *_read_quotas(root)]) + 0.5))


def decide_spin(spin: Spin, threads: int, root: Path = _ROOT) -> bool:
    """Whether so many threads, while they wait for each other, keep their cores busy.

    By itself where the cores are theirs: no more threads than cores, and no quota that could run
    out. What else runs here at the moment is not asked: it says nothing of the hours to come, and
    two replicas that were started together would decide by chance.
    """
    if spin != "auto":
        return spin == "on"
    allowed = _count_allowed()
    return 1 < threads <= allowed and all(quota >= allowed for quota in _read_quotas(root))


def find_memory_limit(root: Path = _ROOT) -> int | None:
    """The bytes this process may use before the kernel ends it; None where no group has a limit."""
    limits = []
    for folder in _find_groups(root, "memory"):
        words = _read_words(folder / "memory.max") or _read_words(folder / "memory.limit_in_bytes")
        # No such files, or "max": no limit.
        if len(words) == 1 and words[0].isdecimal() and int(words[0]) < _UNLIMITED_BYTES:
            limits.append(int(words[0]))
    return min(limits, default=None)


def _count_allowed() -> int:
    """The cores of the affinity mask; those of the machine where there is none."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_quotas(root: Path) -> Iterator[float]:
    """The quotas in cores, of every group that has one."""
    for folder in _find_groups(root, "cpu"):
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


def _find_groups(root: Path, controller: str) -> Iterator[Path]:
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


def _read_words(file: Path) -> list[str]:
    return _read(file).split()


def _read(file: Path) -> str:
    try:
        # As the system names its files, in any locale: a group may be called anything.
        return os.fsdecode(file.read_bytes())
    except OSError:
        return ""
