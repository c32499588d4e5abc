"""What runs a graph. One engine today: ONNX Runtime on CPUs."""

from models.engines.onnx_runtime import Session

__all__ = ["Session"]
