"""A model is replaced over and over while it answers: what fails, what is wrong, what stays behind.

The service, as an operator starts it, with a copy of a bundle and an admin key. Clients ask for
every task it has, one request after the other, and compare each answer with the one that
models.Pipeline gives in this process. POST /admin/bundles replaces the bundle by a copy of itself
under another fingerprint. Memory is read from the process under the same load before the first
replacement and after the last.
"""

import argparse
import http.client
import json
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.results import Target, save_results, say, show_table
from benchmarks.servers import HOST, Running, cloze, serve, stop_on_terminate
from benchmarks.startup import read_memory
from models.bundle.bundle import MANIFEST, hash_file
from models.pipeline import Pipeline
from service.settings import DEFAULT_BUNDLE

REPLACEMENTS = 20
CONNECTIONS = 4
GROWTH_TARGET = 1.10
_SETTLING_S = 3.0
_SAMPLES = 10
_BETWEEN_S = 0.5
_TOLERANCE = 1e-4
_ROUND = "round.txt"
_TEXTS = (
    "Rain fell on the river all night.",
    "The train to the sea leaves at seven, and nobody wants to miss it this time.",
    "Bread and milk.",
    "The old bridge was closed for a year while the town argued about who should pay for it.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and whether an answer to it is right."""

    route: str
    body: bytes
    judge: Callable[[Any], bool]


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    requests: int = 0
    failed: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the process holds, in MB of a million bytes: resident, and its share of it."""

    rss_mb: float
    pss_mb: float


class Clients:
    """Threads that ask until they are stopped, each over one connection."""

    def __init__(self, port: int, questions: Sequence[Question], connections: int) -> None:
        self._port = port
        self._questions = questions
        self._stopped = threading.Event()
        self._tallies = [Tally() for _ in range(connections)]
        self._threads = [
            threading.Thread(target=self._ask, args=[place], daemon=True)
            for place in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """What they saw all together."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self.count()

    def count(self) -> Tally:
        """What they have seen so far."""
        return Tally(
            sum(each.requests for each in self._tallies),
            sum(each.failed for each in self._tallies),
            sum(each.wrong for each in self._tallies),
        )

    def _ask(self, place: int) -> None:
        tally = self._tallies[place]
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        while not self._stopped.is_set():
            question = self._questions[(place + tally.requests) % len(self._questions)]
            tally.requests += 1
            try:
                status, answer = post(connection, question.route, question.body)
            except (OSError, http.client.HTTPException):
                tally.failed += 1
                connection.close()
                continue
            if status != 200:
                tally.failed += 1
            elif not question.judge(answer):
                tally.wrong += 1
        connection.close()


def post(
    connection: http.client.HTTPConnection, route: str, body: bytes, key: str | None = None
) -> tuple[int, Any]:
    """Status and content of the answer to a body."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    connection.request("POST", route, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def list_questions(pipeline: Pipeline) -> list[Question]:
    """For each task of the model, and each text, a request."""
    questions = []
    tasks = pipeline.manifest.tasks
    for text, other in zip(_TEXTS, (*_TEXTS[1:], _TEXTS[0]), strict=True):
        if "embed" in tasks:
            vector = pipeline.embed([text])[0]
            questions.append(_ask("embeddings", {"input": text}, _judge_vector(vector)))
        if "fill-mask" in tasks:
            masked = text.replace(" the ", " [MASK] ", 1).replace("Bread", "[MASK]")
            masked = masked if "[MASK]" in masked else f"[MASK] {masked}"
            (mask,) = pipeline.fill_mask([masked], top_k=1)[0]
            best = mask.candidates[0].score
            questions.append(_ask("fill-mask", {"inputs": masked}, _judge_mask(best)))
        if "next-sentence" in tasks:
            score = pipeline.next_sentence([(text, other)])[0].score
            pair = {"first": text, "second": other}
            questions.append(_ask("next-sentence", {"inputs": pair}, _judge_pair(score)))
        if "classify" in tasks:
            label = pipeline.classify([text])[0][0]
            questions.append(_ask("classify", {"inputs": text}, _judge_label(label.score)))
    return questions


def copy_bundle(bundle: Path, out: Path, number: int) -> Path:
    """The bundle with one more file in it, under hashes that are right: another fingerprint."""
    shutil.copytree(bundle, out)
    file = out / _ROUND
    file.write_text(f"{number}\n")
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][_ROUND] = {"sha256": hash_file(file), "bytes": file.stat().st_size}
    (out / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return out


def read_settled(pid: int) -> Memory:
    """What a process under load holds: the median of some looks at it."""
    rss, pss = [], []
    for _ in range(_SAMPLES):
        rss.append(read_memory(pid))
        pss.append(_read_pss(pid))
        time.sleep(_SETTLING_S / _SAMPLES)
    return Memory(median(rss), median(pss))


def measure(bundle: Path, replacements: int, connections: int) -> dict[str, Any]:
    """Replace the bundle so often under load; what the clients saw, and memory and seconds."""
    questions = list_questions(Pipeline.open(bundle))
    key = secrets.token_urlsafe()
    with tempfile.TemporaryDirectory() as folder:
        current = copy_bundle(bundle, Path(folder) / "bundle-0", 0)
        server = replace(cloze(Path(folder)), environment={"CLOZE_ADMIN_KEYS": key})
        with serve(server) as running:
            clients = Clients(running.port, questions, connections)
            time.sleep(_SETTLING_S)
            before = read_settled(running.pid)
            seconds = []
            for number in range(1, replacements + 1):
                new = copy_bundle(bundle, Path(folder) / f"bundle-{number}", number)
                seconds.append(_replace(running, new, key))
                shutil.rmtree(current)
                current = new
                time.sleep(_BETWEEN_S)
            time.sleep(_SETTLING_S)
            after = read_settled(running.pid)
            tally = clients.stop()
    return {
        **asdict(tally),
        "replacements": replacements,
        "seconds": seconds,
        "before": asdict(before),
        "after": asdict(after),
    }


def run(bundle: Path, replacements: int, connections: int) -> bool:
    """Measure, show, write the results; whether the targets were met."""
    found = measure(bundle, replacements, connections)
    before, after, seconds = found["before"], found["after"], found["seconds"]
    growth = {name: after[name] / before[name] for name in before}
    none, most = Target(0, most=True), Target(GROWTH_TARGET, most=True)
    rows = [
        ("requests", f"{found['requests']:,}", ""),
        ("failed", str(found["failed"]), none.judge(found["failed"])),
        ("wrong", str(found["wrong"]), none.judge(found["wrong"])),
    ]
    for name, title in (("rss_mb", "resident memory"), ("pss_mb", "proportional memory")):
        figure = f"{before[name]:.0f} MB, then {after[name]:.0f}: {growth[name]:.2f} times"
        rows.append((title, figure, most.judge(growth[name])))
    figure = f"{median(seconds):.2f} s, at most {max(seconds):.2f}"
    rows.append(("a replacement", figure, ""))
    show_table(
        f"{replacements} replacements of {bundle.name} under {connections} connections",
        ("what", "figure", "target"),
        rows,
    )
    say(f"written to {save_results('replacing', found)}")
    return not found["failed"] and not found["wrong"] and max(growth.values()) <= GROWTH_TARGET


def main() -> int:
    """Run the command line, and return the exit code: 1 if a target was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replacing",
        description="Replace a model over and over while it answers.",
    )
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--replacements", type=int, default=REPLACEMENTS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    options = parser.parse_args()
    stop_on_terminate()
    return 0 if run(options.bundle, options.replacements, options.connections) else 1


def _replace(running: Running, bundle: Path, key: str) -> float:
    """Seconds until the bundle serves and what it replaced is gone."""
    connection = http.client.HTTPConnection(HOST, running.port, timeout=120)
    began = time.perf_counter()
    body = json.dumps({"path": str(bundle)}).encode()
    status, answer = post(connection, "/admin/bundles", body, key)
    connection.close()
    if status != 200:
        raise SystemExit(f"the replacement was refused: {status} {answer}")
    return time.perf_counter() - began


def _read_pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no Pss of process {pid}")


def _ask(route: str, body: dict[str, Any], judge: Callable[[Any], bool]) -> Question:
    return Question(f"/v1/{route}", json.dumps(body).encode(), judge)


def _is_close(found: Any, wanted: Any) -> bool:
    return bool(np.allclose(found, wanted, rtol=0, atol=_TOLERANCE))


def _judge_vector(vector: Any) -> Callable[[Any], bool]:
    return lambda answer: _is_close(answer["data"][0]["embedding"], vector)


def _judge_mask(score: float) -> Callable[[Any], bool]:
    return lambda answer: _is_close(
        answer["results"][0]["masks"][0]["candidates"][0]["score"], score
    )


def _judge_pair(score: float) -> Callable[[Any], bool]:
    return lambda answer: _is_close(answer["results"][0]["score"], score)


def _judge_label(score: float) -> Callable[[Any], bool]:
    return lambda answer: _is_close(answer["results"][0]["labels"][0]["score"], score)


if __name__ == "__main__":
    sys.exit(main())
