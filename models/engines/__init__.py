"""What runs a graph, and what it may use. One engine today: ONNX Runtime on CPUs."""

from models.engines.onnx_runtime import Session
from models.machine.allocator import return_freed_memory, return_large_blocks
from models.machine.limits import Spin, count_cores, decide_spin, find_memory_limit

__all__ = [
    "Session",
    "Spin",
    "count_cores",
    "decide_spin",
    "find_memory_limit",
    "return_freed_memory",
    "return_large_blocks",
]
