"""The kernels without Python, under sanitizers: no byte too far, no race, nothing undefined."""

import shutil
import subprocess
from pathlib import Path

import pytest

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
    for command in (configure, build, [tmp_path / "harness"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
