"""The panels in which the kernels want the weights of a product (kernels/src/kernels.h).

They stand in a file as the matrix that a standard graph has, and are laid out when it is read.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Their dimensions: how many panels, groups of rows, columns of a panel, rows of a group.
PANELS = ("panels", "groups", "columns", "rows")


def spread_panels(matrix: bytes, shape: tuple[int, ...], size: int) -> bytes:
    """A matrix [K, N] of numbers of so many bytes as panels of that shape, each of them full."""
    panels, groups, columns, rows = shape
    numbers = np.frombuffer(matrix, f"V{size}").reshape(groups, rows, panels, columns)
    return numbers.transpose(2, 0, 3, 1).tobytes()


def gather_panels(panels: NDArray[Any]) -> NDArray[Any]:
    """The matrix [K, N] that panels were made of, with what fills the last one."""
    count, groups, columns, rows = panels.shape
    return np.ascontiguousarray(panels.transpose(1, 3, 0, 2)).reshape(
        groups * rows, count * columns
    )
