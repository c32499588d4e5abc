"""What a replica of one core answers and takes, by the size of its model.

The default model and all-MiniLM-L6-v2 as they are, and models of the usual sizes with random
weights, whose speed and memory are those of trained ones. Each is served by one process bound to
one core, as a replica with CLOZE_CPUS=1 is; wrk asks over 16 connections from the other cores, one
text a request, short ones and mixed ones. Memory is the most that was resident (VmHWM), from the
start to the end of the load.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.load import load, require_wrk, write_bodies
from benchmarks.minilm import ROOT, ensure_bundle, find_checkpoint
from benchmarks.results import RESULTS, save_results, say, show_table
from benchmarks.servers import Server, cloze, serve, stop_on_terminate
from benchmarks.startup import ask_all, list_texts, read_memory
from benchmarks.texts import KINDS, draw_texts, list_words
from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.pipeline import Pipeline
from service.settings import DEFAULT_BUNDLE

CONNECTIONS = 16
SECONDS = 10
_KINDS = ("short", "mixed")
_CORE = "0"


@dataclass(frozen=True, slots=True)
class Size:
    """A model, named, and what finds its bundle or makes it."""

    name: str
    find: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Sized:
    """What one replica showed: texts a second and p99 by kind of texts, and what it took."""

    name: str
    weights_mb: float
    ready_s: float
    memory_mb: float
    rates: dict[str, float]
    p99_ms: dict[str, float]


def make_random(name: str, layers: int, width: int) -> Path:
    """The bundle of a BERT with random weights, exported once."""
    bundle = RESULTS / "sizing" / name
    if bundle.exists():
        return bundle
    checkpoint = make_checkpoint(name, layers, width)
    command = [sys.executable, "-m", "export", str(checkpoint), str(bundle), "--pooling", "mean"]
    subprocess.run(command, cwd=ROOT, check=True)
    return bundle


def make_checkpoint(name: str, layers: int, width: int) -> Path:
    """The checkpoint of a BERT with random weights and the vocabulary of MiniLM, made once."""
    checkpoint = RESULTS / "sizing" / f"{name}-checkpoint"
    if (checkpoint / "tokenizer.json").exists():
        return checkpoint
    import transformers

    source = find_checkpoint()
    config = transformers.BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    transformers.BertModel(config).save_pretrained(checkpoint)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(checkpoint)
    return checkpoint


SIZES = (
    Size("lacuna-mini", lambda: DEFAULT_BUNDLE),
    Size("all-MiniLM-L6-v2", ensure_bundle),
    Size("like DistilBERT-base", lambda: make_random("base-half", 6, 768)),
    Size("like BERT-base", lambda: make_random("base", 12, 768)),
    Size("like BERT-large", lambda: make_random("large", 24, 1024)),
)


def measure(size: Size, seconds: int) -> Sized:
    """Serve one model on one core, load it with each kind of texts, and read its memory."""
    bundle = Bundle.open(size.find())
    encoder = Pipeline(bundle).encoder
    words = list_words(encoder)
    bodies = {
        kind.name: write_bodies(
            RESULTS / "bodies" / f"sizing-{kind.name}.jsonl", draw_texts(kind, words)
        )
        for kind in KINDS
        if kind.name in _KINDS
    }
    found = {}
    with serve(_bind(cloze(bundle.path))) as running:
        # A third of these are long: nothing the load brings is larger.
        ask_all(running, list_texts(encoder)[:48])
        for kind, file in bodies.items():
            time.sleep(1)
            found[kind] = load(running.url, file, connections=CONNECTIONS, seconds=seconds)
        memory_mb = read_memory(running.pid, "VmHWM")
    return Sized(
        size.name,
        bundle.file(trunk_file("fp32")).stat().st_size / 1e6,
        running.ready_after_s,
        memory_mb,
        {kind: one.requests_per_second for kind, one in found.items()},
        {kind: one.p99_ms for kind, one in found.items()},
    )


def run(seconds: int = SECONDS) -> None:
    """Measure every size, show the table, write the results."""
    require_wrk()
    for size in SIZES:
        say(f"bundle of {size.name}: {size.find().name}")
    results = [measure(size, seconds) for size in SIZES]
    show_table(
        f"A replica of one core, {CONNECTIONS} connections, one text a request",
        ("model", "weights MB", "ready s", "memory MB", "short/s", "mixed/s", "p99 ms"),
        [
            (
                one.name,
                f"{one.weights_mb:.0f}",
                f"{one.ready_s:.1f}",
                f"{one.memory_mb:.0f}",
                *(f"{one.rates[kind]:,.{0 if one.rates[kind] >= 100 else 1}f}" for kind in _KINDS),
                ", ".join(f"{one.p99_ms[kind]:.0f}" for kind in _KINDS),
            )
            for one in results
        ],
    )
    say(f"written to {save_results('sizing', {'sizes': [asdict(one) for one in results]})}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizing",
        description="Texts a second and memory of a replica, by the size of its model.",
    )
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help=f"of each load; default: {SECONDS}"
    )
    stop_on_terminate()
    run(parser.parse_args().seconds)


def _bind(server: Server) -> Server:
    return Server(server.name, ("taskset", "--cpu-list", _CORE, *server.command))


if __name__ == "__main__":
    main()
