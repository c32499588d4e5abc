"""The kernels without Python, under sanitizers: no byte too far, no race, nothing undefined."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ARM = "aarch64-linux-gnu"
KERNELS = Path(__file__).resolve().parents[2] / "kernels"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("cmake") and shutil.which("c++")), reason="no CMake or no C++ compiler"
    ),
]


@pytest.mark.parametrize("watched", ["address,undefined", "thread"])
def test_nothing_is_read_or_written_that_is_not_there(watched: str, tmp_path: Path) -> None:
    configure = ["cmake", "-S", KERNELS, "-B", tmp_path, f"-DCLOZE_SANITIZE={watched}"]
    build = ["cmake", "--build", tmp_path, "--target", "harness"]
    # Where addresses are drawn from too many, a sanitizer finds its own place taken now and then.
    still = ["setarch", "-R"] if shutil.which("setarch") else []
    for command in (configure, build, [*still, tmp_path / "harness"]):
        run(command)


@pytest.mark.skipif(
    not (shutil.which(f"{ARM}-g++") and shutil.which("qemu-aarch64")),
    reason="no compiler for ARM (g++-aarch64-linux-gnu) or nothing to emulate it by (qemu-user)",
)
def test_neon_by_a_processor_that_is_emulated(tmp_path: Path) -> None:
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    compiler = [f"-DCMAKE_CXX_COMPILER={ARM}-g++", "-DCLOZE_SANITIZE=undefined"]
    run(["cmake", "-S", KERNELS, "-B", tmp_path, *target, *compiler])
    run(["cmake", "--build", tmp_path, "--target", "harness", "cloze_kernels"])
    told = run(["qemu-aarch64", "-L", f"/usr/{ARM}", tmp_path / "harness"])
    assert told.strip() == "neon: 0 wrong"


def run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
