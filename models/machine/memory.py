"""How many bytes this process may hold, by the control groups of its container.

Reads memory.max of version 2 and memory.limit_in_bytes of version 1; see the kernel's
admin-guide/cgroup-v2 and cgroup-v1/memory. What is held already is not its business.
"""

from pathlib import Path

from models.machine.cgroups import ROOT, find_groups, read_words

# What version 1 says where there is no limit: the largest number of pages there can be.
_UNLIMITED_BYTES = 1 << 62


def find_memory_limit(root: Path = ROOT) -> int | None:
    """The bytes this process may use before the kernel ends it; None where no group has a limit."""
    limits = []
    for folder in find_groups(root, "memory"):
        words = read_words(folder / "memory.max") or read_words(folder / "memory.limit_in_bytes")
        # No such files, or "max": no limit.
        if len(words) == 1 and words[0].isdecimal() and int(words[0]) < _UNLIMITED_BYTES:
            limits.append(int(words[0]))
    return min(limits, default=None)
