"""What the service costs before and beside its work: seconds until it answers, and memory.

Three figures against fixed bounds, not ratios, since operators plan with them: seconds to import
the application in a fresh interpreter, seconds from the start of the process until GET
/health/ready is 200, both the median of several starts with files in the page cache, and resident
memory (VmRSS) after a few hundred requests of all lengths from 16 clients at once: of MiniLM
against one and a half times its weights and 150 MB, and of the model that comes with the service.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.minilm import ROOT, ensure_bundle
from benchmarks.results import Target, save_results, say, show_table
from benchmarks.servers import Running, clean_environment, cloze, serve, stop_on_terminate
from benchmarks.texts import KINDS, draw_texts, list_words
from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.pipeline import Pipeline
from models.text.encoder import Encoder
from service.settings import DEFAULT_BUNDLE

STARTS = 5
IMPORT_TARGET_S = 1.0
READY_TARGET_S = 4.0
DEFAULT_READY_TARGET_S = 2.0
DEFAULT_MEMORY_TARGET_MB = 350.0
_CLIENTS = 16
_TEXTS_OF_A_KIND = 128
_TIMED_IMPORT = """
import time
began = time.perf_counter()
import {module}
print(time.perf_counter() - began)
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its target and its unit."""

    name: str
    value: float
    unit: str
    target: Target

    def row(self) -> tuple[str, str, str]:
        """The figure as a row of a table."""
        digits = 0 if self.unit == "MB" else 2
        return (self.name, f"{self.value:.{digits}f} {self.unit}", self.target.judge(self.value))


def time_import(module: str) -> float:
    """Seconds to import a module in a fresh interpreter, the interpreter's own start left out."""
    finished = subprocess.run(
        [sys.executable, "-c", _TIMED_IMPORT.format(module=module)],
        cwd=ROOT,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return float(finished.stdout)


def read_memory(pid: int, field: str = "VmRSS") -> float:
    """The resident memory of a process, in MB of a million bytes; VmHWM is the most there was."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no {field} of process {pid}")


def ask_all(running: Running, texts: Sequence[str]) -> None:
    """Ask for every text, 16 at a time."""
    with ThreadPoolExecutor(_CLIENTS) as clients:
        for _ in clients.map(running.embed, texts):
            pass


def list_texts(encoder: Encoder) -> list[str]:
    """Texts of all kinds in turn."""
    words = list_words(encoder)
    kinds = [draw_texts(kind, words)[:_TEXTS_OF_A_KIND] for kind in KINDS]
    return [text for some in zip(*kinds, strict=True) for text in some]


def run(starts: int = STARTS) -> None:
    """Measure both models, show the tables, write the results."""
    imports = [time_import("service.app, uvicorn") for _ in range(starts)]
    minilm = Bundle.open(ensure_bundle())
    weights = minilm.file(trunk_file("fp32")).stat().st_size / 1e6
    memory_target = round(1.5 * weights + 150)
    importing = Figure(
        "import service.app", median(imports), "s", Target(IMPORT_TARGET_S, most=True)
    )
    content = {
        "import_s": imports,
        "minilm": measure(minilm, starts, importing, (READY_TARGET_S, memory_target)),
        "default": measure(
            Bundle.open(DEFAULT_BUNDLE),
            starts,
            importing,
            (DEFAULT_READY_TARGET_S, DEFAULT_MEMORY_TARGET_MB),
        ),
    }
    say(f"written to {save_results('startup', content)}")


def measure(
    bundle: Bundle, starts: int, importing: Figure, targets: tuple[float, float]
) -> dict[str, object]:
    """Seconds until ready and memory of one bundle, shown as a table."""
    texts = list_texts(Pipeline(bundle).encoder)
    server = cloze(bundle.path)
    ready = []
    for _ in range(starts):
        with serve(server) as running:
            ready.append(running.ready_after_s)
    with serve(server) as running:
        ask_all(running, texts)
        memory = read_memory(running.pid)
    ready_target_s, memory_target_mb = targets
    figures = [
        importing,
        Figure("start until ready", median(ready), "s", Target(ready_target_s, most=True)),
        Figure(
            f"memory after {len(texts)} requests",
            memory,
            "MB",
            Target(memory_target_mb, most=True),
        ),
    ]
    show_table(
        f"Start and memory: {bundle.manifest.name}, {starts} starts",
        ("what", "figure", "target"),
        [figure.row() for figure in figures],
    )
    return {"figures": [asdict(figure) for figure in figures], "ready_s": ready}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup",
        description="Seconds until the service answers, and the memory it takes.",
    )
    parser.add_argument("--starts", type=int, default=STARTS, help=f"default: {STARTS}")
    stop_on_terminate()
    run(parser.parse_args().starts)


if __name__ == "__main__":
    main()
