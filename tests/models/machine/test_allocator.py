"""Memory that was freed goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

# A million small blocks, all freed but the last, below which the allocator keeps them.
PROGRAM = """
import ctypes
from pathlib import Path
from models.machine.allocator import return_freed_memory

def read_resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(100) for _ in range(1_000_000)]
for block in blocks[:-1]:
    libc.free(block)
before = read_resident()
return_freed_memory()
print(before - read_resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the C library is not glibc",
)
def test_small_blocks_go_back_when_they_are_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 50
