"""The log of a run as a picture."""

import json
from pathlib import Path

import matplotlib.image
import pytest

from training.curves import draw_curves

PANELS = (("loss", "validation_loss"), ("accuracy",))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a run that learns."""
    records = [
        {"step": step, "tokens": 1000 * step, "loss": 5 / step, "accuracy": 1 - 1 / step}
        for step in range(1, 9)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_picture_of_the_figures(log: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"the one before")
    draw_curves(log, picture, PANELS, "a run")
    pixels = matplotlib.image.imread(picture)
    height, width, _ = pixels.shape
    assert width > 2 * height
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "curves.png"}
    drawn = pixels[..., :3]
    coloured = (drawn.max(axis=-1) - drawn.min(axis=-1)) > 0.3
    assert coloured[:, : width // 2].any()
    assert coloured[:, width // 2 :].any()


def test_figures_that_are_not_there_yet(log: Path, tmp_path: Path) -> None:
    """As at the first save, when a lesson may not have been drawn: no warning either."""
    draw_curves(log, tmp_path / "curves.png", (("loss",), ("rehearsal_loss",)), "a run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_are_no_numbers(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "tokens": 5, "loss": NaN, "accuracy": null}\n')
    draw_curves(log, tmp_path / "curves.png", (("loss",),), "a run")
    assert (tmp_path / "curves.png").exists()
