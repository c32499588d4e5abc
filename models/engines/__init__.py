"""What runs a graph: the contract in session.py and output.py, and a module for each engine.

Only what every engine has in common is imported here; an engine is, once it is chosen.
"""

from models.engines.output import HostOutput, Output
from models.engines.session import (
    CUDA,
    ENGINE,
    ENGINES,
    KERNELS,
    OPENVINO,
    PACKED_ENDS,
    PACKED_OFFSETS,
    Role,
    Session,
    Spin,
    open_session,
)

__all__ = [
    "CUDA",
    "ENGINE",
    "ENGINES",
    "KERNELS",
    "OPENVINO",
    "PACKED_ENDS",
    "PACKED_OFFSETS",
    "HostOutput",
    "Output",
    "Role",
    "Session",
    "Spin",
    "open_session",
]
