"""The library of our own operators (kernels/): where it is, and whether it runs here.

It is loaded from the installed project alone, never from a bundle, the environment or the system's
search path: what it computes is what a bundle was proven with.
"""

import ctypes
import hashlib
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from models.errors import OperatorError

DOMAIN = "ai.cloze"
# Of its operators, which graphs are written for: kernels/src/operators.cc.
VERSION = 2
_NAME = "libcloze_kernels.dylib" if sys.platform == "darwin" else "libcloze_kernels.so"
LIBRARY = Path(__file__).resolve().parents[2] / "kernels" / "build" / _NAME

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Kernels:
    """The library, and what of this processor it uses: avx512, avx2 or neon; `half`: bfloat16."""

    path: Path
    instructions: str
    half: bool


@dataclass(frozen=True, slots=True)
class NoKernels:
    """Why the operators do not run here, and what would help, in a sentence without an end."""

    reason: str


def find_kernels() -> Kernels | NoKernels:
    """The library, loaded, or why it cannot be. Looked for once, and never raises."""
    with _loading:
        return _find(LIBRARY)


def require_kernels() -> Kernels:
    """The library, loaded. Raises OperatorError where it cannot be."""
    found = find_kernels()
    if isinstance(found, NoKernels):
        raise OperatorError(found.reason)
    return found


def choose_instructions(wanted: str) -> Kernels:
    """Have the operators use those of an older processor, in this process, from now on.

    For tests and measurements. Raises OperatorError where there are none of the name.
    """
    kernels = require_kernels()
    library = _open(kernels.path)
    library.cloze_choose.restype = ctypes.c_char_p
    chosen = library.cloze_choose(wanted.encode())
    if chosen is None:
        library.cloze_choose(None)
        raise OperatorError(f"this processor has no {wanted} that the kernels were made for")
    return Kernels(kernels.path, chosen.decode(), bool(library.cloze_has_half()))


@cache
def _find(path: Path) -> Kernels | NoKernels:
    if not path.is_file():
        return NoKernels(
            f"the kernels are not built ({path.name} is not in {path.parent}); `make kernels` "
            "builds them where there is a C++ compiler"
        )
    try:
        if not _is_whole(path):
            return NoKernels(f"{path} is damaged; build it anew by `make kernels`")
        library = _open(path)
        version = int(library.cloze_version())
    except (OSError, AttributeError, ValueError, IndexError) as error:
        return NoKernels(f"{path} cannot be loaded ({error}); build it anew by `make kernels`")
    if version != VERSION:
        return NoKernels(
            f"{path} is of version {version}, not {VERSION}; build it anew by `make kernels`"
        )
    library.cloze_choose.restype = ctypes.c_char_p
    instructions = library.cloze_choose(None)
    if instructions is None:
        return NoKernels(
            "this processor has none of the instructions that the kernels were made for (AVX2 with "
            "FMA, or NEON)"
        )
    return Kernels(path, instructions.decode(), bool(library.cloze_has_half()))


def _is_whole(path: Path) -> bool:
    """Whether it is what was built: the system's loader ends the process over one that is not."""
    told = path.with_name(f"{path.name}.sha256").read_text(encoding="ascii").split()[0]
    return hashlib.sha256(path.read_bytes()).hexdigest() == told


@cache
def _open(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
