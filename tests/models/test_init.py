"""What is asked of `models` is loaded when it is asked for, and no more of it."""

import subprocess
import sys
from pathlib import Path

import pytest

import models

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("numpy", "onnxruntime", "tokenizers", "pydantic")


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", f"import sys; {code}"]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["models", "models.errors", "models.tasks", "models.families", "models.machine.memory"],
)
def test_what_needs_nothing_loads_nothing(module: str) -> None:
    assert run(f"import {module}; print(*set({SLOW}) & set(sys.modules))") == ""


def test_the_public_face_is_there_all_the_same() -> None:
    assert run("from models import Pipeline; print(Pipeline.__module__)") == "models.pipeline"
    assert run("import models; print(models.Pipeline.__name__)") == "Pipeline"
    assert run("from models import *; print(Pipeline.__name__)") == "Pipeline"
    assert run("from models import errors; print(errors.__name__)") == "models.errors"


def test_what_is_not_there_is_said_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'models' has no attribute 'Pipelin'"):
        _ = models.Pipelin  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from models import Pipelin  # type: ignore[attr-defined] # noqa: F401
