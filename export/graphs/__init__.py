"""The ONNX graphs of a trunk and its heads, in each precision."""
