"""CPU seconds that processes have used."""

import os
import resource
from pathlib import Path


def read_used_s(pid: int) -> float:
    """CPU seconds of a process and its threads so far: utime and stime of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_children_s() -> float:
    """CPU seconds of the children that have ended: of wrk, while a server still runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
