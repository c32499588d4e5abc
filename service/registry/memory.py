"""Memory: a bundle that cannot fit is refused with a reason, what one leaves is given back.

The kernel ends a process that grows beyond its container's limit, without a word in its log.
"""

import gc
import os
from pathlib import Path

import structlog

from models.bundle.bundle import Bundle
from models.bundle.manifest import list_graphs
from models.errors import OperatorError
from models.machine.allocator import return_freed_memory
from models.machine.memory import find_memory_limit

# Beside its weights a model takes, at most, a part of them while it is loaded (they are laid out
# anew, matrix by matrix) and this much for its tokenizer and what a batch computes. Measured by
# benchmarks/sizing.py.
_LOADING = 1.1
_WORK_BYTES = 120_000_000
_MB = 1e6

_log = structlog.get_logger(__name__)


def check_memory(
    bundle: Bundle, precision: str, *, serving: bool = False, root: Path = Path("/")
) -> None:
    """Raise OperatorError where the weights alone are more than is left; warn where it is close.

    While `serving`, what is close is refused too: it would take down what runs. Counts what this
    process holds already, other bundles among them. Without a limit, or where the system does not
    tell, nothing is checked. `root` holds proc and sys.
    """
    limit = find_memory_limit(root)
    held = _read_held(root)
    if limit is None or held is None:
        return
    files = [bundle.manifest.files[name] for name in list_graphs(bundle.manifest, precision)]
    stored = sum(file.bytes for file in files)
    weights = sum(file.loaded_bytes or file.bytes for file in files)
    # Weights that are stored narrower than they are used are there twice for a moment.
    loading = max(_LOADING * weights, weights + stored if weights > 1.2 * stored else 0)
    needed = held + loading + _WORK_BYTES
    remedy = "raise it (CLOZE_MEMORY in docker compose), or serve fewer bundles"
    if held + weights > limit or (serving and needed > limit):
        raise OperatorError(
            f"{bundle.path} has weights of {weights / _MB:.0f} MB and may take "
            f"{(needed - held) / _MB:.0f}, but of the {limit / _MB:.0f} MB that this process may "
            f"use {held / _MB:.0f} are taken; {remedy}"
        )
    if needed > limit:
        _log.warning(
            "memory may not suffice, and the kernel would end this process with code 137",
            model=bundle.manifest.name,
            needed_mb=round(needed / _MB),
            limit_mb=round(limit / _MB),
            remedy=remedy,
        )


def release_memory() -> None:
    """Give what nothing refers to any more back to the system, what refers to itself included."""
    gc.collect()
    return_freed_memory()


def _read_held(root: Path) -> int | None:
    """The bytes that are this process's own: what it maps from files can be read again."""
    try:
        lines = os.fsdecode((root / "proc/self/status").read_bytes()).splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
