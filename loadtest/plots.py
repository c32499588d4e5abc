"""The plots of a report."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.knee import Level, find_knee
from loadtest.measurements import Figures, Measurements


def draw_time(measurements: Measurements, file: Path) -> Path:
    """Throughput, failures and users, and latency, over the seconds of a test."""
    first, last = min(measurements.seconds), max(measurements.seconds)
    moments = list(range(first, last + 1))
    figures = [measurements.seconds.get(moment, Figures()) for moment in moments]
    times = [moment - first for moment in moments]
    picture, (above, below) = plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    above.plot(times, [each.requests for each in figures], label="requests a second")
    above.plot(times, [each.failed for each in figures], label="failed", color="tab:red")
    users = [measurements.users.get(moment, 0) for moment in moments]
    above.plot(times, users, label="users", color="tab:gray", linestyle=":")
    for share in (50, 95, 99):
        values = [each.response.find_percentile(share / 100) or None for each in figures]
        below.plot(times, values, label=f"p{share}")
    queue = [each.stages["queue"].mean_ms if "queue" in each.stages else None for each in figures]
    below.plot(times, queue, label="mean queue", color="tab:gray", linestyle=":")
    below.set_yscale("log")
    below.set_ylabel("ms")
    below.set_xlabel("seconds")
    return _save(picture, (above, below), file)


def draw_levels(levels: Sequence[Level], file: Path) -> Path:
    """Latency against throughput, a point a level, the knee marked."""
    picture, axis = plt.subplots(figsize=(7, 5))
    throughput = [level.throughput for level in levels]
    axis.plot(throughput, [level.p95_ms for level in levels], marker="o", label="p95")
    axis.plot(throughput, [level.p50_ms for level in levels], marker="o", label="p50")
    for level in levels:
        axis.annotate(str(level.users), (level.throughput, level.p95_ms), fontsize=8)
    knee = find_knee(levels)
    if knee is not None:
        axis.axvline(knee.throughput, color="tab:gray", linestyle=":", label=f"knee: {knee.users}")
    axis.set_yscale("log")
    axis.set_xlabel("requests a second")
    axis.set_ylabel("ms")
    return _save(picture, (axis,), file)


def _save(picture: Figure, axes: Sequence[Axes], file: Path) -> Path:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    picture.tight_layout()
    picture.savefig(file, dpi=110)
    plt.close(picture)
    return file
