"""How the C library's allocator keeps memory, where that can be chosen."""

import ctypes
import sys

# mallopt(3): M_MMAP_THRESHOLD in glibc's malloc.h.
_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """Have the allocator give blocks of a megabyte and more back as soon as they are freed.

    By default glibc raises that size with every such block, up to 32 MB: the weights that ONNX
    Runtime lays out anew while it loads would stay, and a BERT-large take half as much again.
    Does nothing where the C library is another one.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def return_freed_memory() -> None:
    """Have the allocator give back what was freed, down to the last page; takes milliseconds.

    Small blocks stay with it otherwise, for whoever asks next. Does nothing where the C library
    is not glibc.
    """
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)
