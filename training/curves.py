"""Draws a run's log as a picture."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from training.errors import StorageFull
from training.storage import read_records


def draw_curves(log: Path, picture: Path, panels: tuple[tuple[str, ...], ...], title: str) -> None:
    """A PNG with one panel for each group of figures, over the tokens seen."""
    records = read_records(log)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.6), squeeze=False)
    for axis, names in zip(axes[0], panels, strict=True):
        for name in names:
            points = [(r["tokens"] / 1e6, r[name]) for r in records if r.get(name) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1.2)
        axis.set_xlabel("million tokens")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize="small")
    figure.suptitle(title)
    figure.tight_layout()
    temporary = picture.with_name(picture.stem + ".new.png")
    try:
        figure.savefig(temporary, dpi=110)
        temporary.replace(picture)
    except OSError as failure:
        temporary.unlink(missing_ok=True)
        raise StorageFull(f"{picture} could not be written ({failure}). Make room.") from failure
    finally:
        plt.close(figure)
