"""How many cores this process may use, by its affinity mask and its container's quotas.

Reads cpu.max of version 2 and cpu.cfs_quota_us of version 1, of the group of this process and of
those above it; see the kernel's admin-guide/cgroup-v2 and scheduler/sched-bwc. A cpuset needs no
reading: the kernel takes its cores out of the mask. What threads do with the cores is the engine's.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from models.machine.cgroups import ROOT, find_groups, read_words


def count_cores(root: Path = ROOT) -> int:
    """The threads that can run at once here, at least 1.

    A quota is rounded to whole cores, half a one up: a thread more than it holds is stopped for the
    rest of each period, and the others with it, but from half a core on it computes more before
    that than is lost then (benchmarks/cores.py). `root` holds proc and sys.
    """
    return max(1, math.floor(min([_count_allowed(), *_read_quotas(root)]) + 0.5))


def owns_cores(threads: int, root: Path = ROOT) -> bool:
    """Whether so many threads have a core each, and no quota that could run out."""
    allowed = _count_allowed()
    return threads <= allowed and all(quota >= allowed for quota in _read_quotas(root))


def _count_allowed() -> int:
    """The cores of the affinity mask; those of the machine where there is none."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_quotas(root: Path) -> Iterator[float]:
    """The quotas in cores, of every group that has one."""
    for folder in find_groups(root, "cpu"):
        words = read_words(folder / "cpu.max")
        if not words:
            words = [
                *read_words(folder / "cpu.cfs_quota_us"),
                *read_words(folder / "cpu.cfs_period_us"),
            ]
        try:
            quota, period = (int(word) for word in words)
        except ValueError:  # no such files, or "max": no quota
            continue
        if quota > 0 and period > 0:
            yield quota / period
