"""A bundle that cannot fit is refused, one that may not is warned of, and loading leaves little."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from models.bundle.bundle import Bundle
from models.bundle.manifest import list_graphs
from models.errors import OperatorError
from service.registry.memory import check_memory
from service.settings import DEFAULT_BUNDLE

MB = 1_000_000


def make_root(folder: Path, limit: str, *, held: int | None = 50 * MB) -> Path:
    """A root under which this process has that limit and holds so much."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text("0::/\n")
    (folder / "sys/fs/cgroup/memory.max").write_text(limit)
    if held is not None:
        status = f"VmRSS:\t{9 * held // 1024} kB\nRssAnon:\t{held // 1024} kB\n"
        (folder / "proc/self/status").write_text(status)
    return folder


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The default one: 16 MB of weights."""
    return Bundle.open(DEFAULT_BUNDLE)


def test_weights_that_do_not_fit_are_refused_with_the_figures(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(OperatorError) as refusal:
        check_memory(bundle, "fp32", root=make_root(tmp_path, str(55 * MB)))
    message = str(refusal.value)
    assert message.startswith(str(bundle.path))
    assert "of the 55 MB that this process may use 50 are taken" in message
    assert "CLOZE_MEMORY" in message


def test_what_may_not_suffice_is_warned_of(bundle: Bundle, tmp_path: Path) -> None:
    with capture_logs() as logs:
        check_memory(bundle, "fp32", root=make_root(tmp_path, str(150 * MB)))
    (line,) = logs
    assert line["log_level"] == "warning"
    assert line["model"] == "lacuna-mini"
    assert line["needed_mb"] > line["limit_mb"] == 150


def test_what_may_not_suffice_is_refused_beside_what_runs(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="weights of 16 MB and may take 1"):
        check_memory(bundle, "fp32", serving=True, root=make_root(tmp_path, str(150 * MB)))


@pytest.mark.parametrize("limit", [str(400 * MB), "max"])
def test_what_fits_is_not_spoken_of(bundle: Bundle, tmp_path: Path, limit: str) -> None:
    with capture_logs() as logs:
        check_memory(bundle, "fp32", root=make_root(tmp_path, limit))
    assert not logs


def test_what_the_system_does_not_tell_is_not_guessed(bundle: Bundle, tmp_path: Path) -> None:
    check_memory(bundle, "fp32", root=make_root(tmp_path, "1", held=None))


_FREE_LARGE_BLOCKS = """
import ctypes, sys
from models.machine.allocator import return_large_blocks
if sys.argv[1] == "returned":
    return_large_blocks()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
def allocate(bytes):
    block = library.malloc(ctypes.c_size_t(bytes))
    ctypes.memset(ctypes.c_void_p(block), 1, bytes)
    return block
# The first such block that is freed tells glibc to keep the next ones.
library.free(allocate(30_000_000))
blocks = [allocate(8_000_000) for _ in range(40)]
# Above them, so that the heap cannot shrink.
keep = allocate(500_000)
for block in blocks:
    library.free(block)
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not re.match("glibc", os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="it is the allocator of glibc",
)
def test_large_blocks_are_given_back() -> None:
    held = {
        way: int(
            subprocess.run(
                [sys.executable, "-c", _FREE_LARGE_BLOCKS, way],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for way in ("kept", "returned")
    }
    assert held["kept"] - held["returned"] > 300_000, held


def test_weights_that_are_stored_narrower_count_as_they_are_loaded(
    bundle: Bundle, tmp_path: Path
) -> None:
    """The default model's halves: 16 MB of files become 31, and both are there for a moment."""
    graphs = set(list_graphs(bundle.manifest, "fp32"))
    files = {
        name: entry.model_copy(update={"loaded_bytes": 2 * entry.bytes})
        if name in graphs
        else entry
        for name, entry in bundle.manifest.files.items()
    }
    wide = Bundle(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    check_memory(bundle, "fp32", root=make_root(tmp_path / "narrow", str(70 * MB)))
    with pytest.raises(OperatorError, match="weights of 31 MB and may take 167"):
        check_memory(wide, "fp32", root=make_root(tmp_path / "wide", str(70 * MB)))
