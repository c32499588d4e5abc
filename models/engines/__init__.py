"""What runs a graph. One engine today: ONNX Runtime on CPUs."""

from models.engines.cores import count_cores
from models.engines.onnx_runtime import Session

__all__ = ["Session", "count_cores"]
