"""The engine of our own operators: ONNX Runtime with what lies between its products replaced.

Runs trunks in the kernels' form (export/graphs/kernels.py), on threads as the plain engine has.
"""

from pathlib import Path

from models.engines import onnx_runtime
from models.engines.library import NoKernels, find_kernels
from models.engines.session import Role, Session, Spin
from models.errors import OperatorError


def open_session(
    file: Path, role: Role, *, threads: int, spin: Spin, precision: str = "fp32"
) -> Session:
    """As the plain engine does; raises OperatorError, too, where the operators do not run here."""
    if role == "head":
        return onnx_runtime.open_session(file, role, threads=threads, spin=spin)
    found = find_kernels()
    if isinstance(found, NoKernels):
        raise OperatorError(f"{file} cannot be run by the kernels: {found.reason}")
    library = found.path
    return onnx_runtime.open_session(file, role, threads=threads, spin=spin, library=library)
