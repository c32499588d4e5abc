"""Nothing that is run here tells its maker of it, or leaves an id of the machine behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_ASK = "from models import Pipeline; Pipeline.open({bundle!r}).embed(['the king'])"
# An onnxruntime that was imported before ours is the importer's own.
_LATE = "import export.graphs.fp16, service.engines; " + _ASK


@pytest.mark.parametrize(
    "command",
    [
        ("-c", _ASK),
        ("-c", _LATE),
        ("-m", "service", "--engines", "--bundle", "{bundle}"),
        ("-m", "export", "verify", "{bundle}"),
    ],
    ids=["pipeline", "imports", "service", "export"],
)
def test_no_file_is_left_in_the_home(
    command: tuple[str, ...], pretraining_bundle: Path, tmp_path: Path
) -> None:
    given = [part.format(bundle=str(pretraining_bundle)) for part in command]
    environment = {
        name: value
        for name, value in os.environ.items()
        if "TELEMETRY" not in name and not name.startswith("XDG_")
    }
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, *given],
        cwd=ROOT,
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert not left


def test_what_would_tell_is_switched_off() -> None:
    """As onnxruntime and huggingface_hub read it; who sets it otherwise means it."""
    names = ["ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"]
    script = f"import models, export, os; print(*map(os.environ.get, {names}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "TELEMETRY" not in name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "1"]
