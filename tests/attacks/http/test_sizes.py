"""Much of one thing, to a process of its own: it goes on with others, and gets lean again."""

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.http.conftest import KNOWN
from tests.helpers.process import start_service
from tests.helpers.server import JSON, check_error, check_same, find_refusal

MB = 1_000_000
TASKS = pytest.mark.parametrize("path", KNOWN)
# As many as are validated at all.
UNKNOWN = {str(number): 1 for number in range(250_000)}
# Above what it held before: allocators keep some, and threads have stacks.
_KEPT_BYTES = 100 * MB
_REFUSALS = {
    "input_too_long",
    "invalid_value",
    "invalid_target",
    "too_many_inputs",
    "too_many_characters",
    "unknown_field",
}


class Process:
    """A service, what it answered before, and what it held."""

    def __init__(self, pid: int, client: httpx.Client) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.clear = Path(f"/proc/{pid}/clear_refs")
        self.client = client
        self.wanted = {path: client.post(path, json=body).json() for path, body in KNOWN.items()}

    def read(self, name: str) -> int:
        """Bytes of memory, by their name in proc."""
        (line,) = [line for line in self.status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1]) * 1024

    def attack(self, path: str, body: Any, peak: int = 1_500 * MB) -> httpx.Response:
        """What it answers, after holding that it stays within bounds and goes on with others."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        before = self.read("VmRSS")
        self.clear.write_text("5")  # the peak is counted from here
        answers: list[httpx.Response] = []
        with httpx.Client(base_url=self.client.base_url, timeout=240) as client:
            attacker = threading.Thread(
                target=lambda: answers.append(client.post(path, content=content, headers=JSON))
            )
            attacker.start()
            others = 0
            while attacker.is_alive() or not others:
                # It is computed when its turn comes, not after the large one.
                other, known = list(KNOWN.items())[others % len(KNOWN)]
                check_same(self.client.post(other, json=known).json(), self.wanted[other])
                others += 1
            attacker.join()
        assert self.read("VmHWM") < before + peak
        (answer,) = answers
        if answer.status_code != 200:
            code = answer.json()["error"]["code"]
            check_error(answer, find_refusal(path), code, answer.json()["error"]["param"])
            assert code in _REFUSALS
            assert len(answer.content) < 2_000
        return answer


@pytest.fixture(scope="module")
def process(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Process]:
    bundles = ("--bundle", str(pretraining_bundle), "--bundle", str(classify_bundle))
    with start_service(*bundles) as (process, client):
        yield Process(process.pid, client)


@pytest.fixture(autouse=True)
def _lean(process: Process) -> Iterator[None]:
    yield
    process.client.post("/v1/embeddings", json={"input": "rain"})
    found = process.read("VmRSS")
    # The first large request grows what the next ones use again.
    assert found < 400 * MB, found


def make_body(path: str, text: str, overflow: str) -> dict[str, Any]:
    if path == "/v1/embeddings":
        return {"input": text, "overflow": overflow}
    if path == "/v1/fill-mask":
        return {"inputs": f"the [MASK] {text}", "overflow": overflow}
    if path == "/v1/next-sentence":
        half = len(text) // 2
        return {"inputs": {"first": text[:half], "second": text[half:]}, "overflow": overflow}
    return {"inputs": text, "overflow": overflow}


@TASKS
@pytest.mark.parametrize("overflow", ["error", "truncate"])
def test_a_text_of_a_megabyte(path: str, overflow: str, process: Process) -> None:
    # Of a WordPiece model one word of any length is one unknown token.
    process.attack(path, make_body(path, "a" * MB, overflow))
    answer = process.attack(path, make_body(path, "\u4e2d" * (MB // 3), overflow))
    if overflow == "error":
        assert answer.status_code == find_refusal(path)
    elif answer.status_code == 200:
        found = answer.json()
        assert (found.get("data") or found["results"])[0]["truncated"] is True


@pytest.mark.slow
@TASKS
@pytest.mark.parametrize("overflow", ["error", "truncate"])
@pytest.mark.parametrize("text", ["a", "\u4e2d"])
def test_a_text_of_ten_megabytes(path: str, text: str, overflow: str, process: Process) -> None:
    whole = text * (10 * MB // len(text.encode()))
    process.attack(path, make_body(path, whole, overflow), peak=4_000 * MB)


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/v1/embeddings", {"input": [""] * 100_000}, "too_many_inputs", "input"),
        ("/v1/embeddings", b'{"input":[' + b'"",' * 3 * MB + b'""]}', "too_many_inputs", "input"),
        ("/v1/classify", {"inputs": [{}] * 100_000}, "too_many_inputs", "inputs"),
        ("/v1/embeddings", {"input": [[]] * 100_000}, "too_many_inputs", "input"),
        ("/v1/embeddings", b'{"input":[' + b"1," * 5 * MB + b"1]}", "input_too_long", "input"),
        ("/v1/embeddings", {"input": [[1] * 1_000] * 2_000}, "input_too_long", "input"),
        ("/v1/embeddings", {"input": [2, *[1] * MB, 3]}, "input_too_long", "input[0]"),
        ("/v1/fill-mask", {"inputs": "[MASK] " * 100_000}, "input_too_long", "inputs[0]"),
        (
            "/v1/fill-mask",
            {"inputs": "[MASK] " * 100_000, "overflow": "truncate"},
            "invalid_value",
            "inputs[0]",
        ),
        (
            "/v1/fill-mask",
            {"inputs": ["[MASK] " * 60] * 2_048, "top_k": 2**62},
            "invalid_value",
            "inputs[3]",
        ),
        (
            "/v1/fill-mask",
            {"inputs": "[MASK]", "targets": ["the"] * 100_000},
            "invalid_value",
            "targets",
        ),
        (
            "/v1/fill-mask",
            {"inputs": "[MASK]", "targets": ["a" * 3 * MB]},
            "invalid_target",
            "targets[0]",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_much_of_one_thing_is_refused(
    path: str, body: Any, code: str, param: str, process: Process
) -> None:
    check_error(process.attack(path, body), find_refusal(path), code, param)


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/v1/embeddings", {"input": [[""] * MB]}, "invalid_value", "input[0][0]"),
        ("/v1/embeddings", {"input": [*[1] * MB, ""]}, "invalid_value", "input[0]"),
        ("/v1/fill-mask", {"inputs": "[MASK]", **UNKNOWN}, "unknown_field", "0"),
        ("/v1/next-sentence", {"inputs": UNKNOWN}, "unknown_field", "inputs[0].0"),
        ("/v1/embeddings", {"input": [[{}] * MB]}, "too_many_inputs", None),
        ("/v1/classify", {"inputs": "a", "x": [[[]] * 50] * 50_000}, "too_many_inputs", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_many_errors_take_the_memory_of_one(
    path: str, body: Any, code: str, param: str | None, process: Process
) -> None:
    # Collected, they take over a kilobyte each.
    check_error(process.attack(path, body, peak=150 * MB), find_refusal(path), code, param)


def test_a_bomb_of_gzip_is_unpacked_as_far_as_a_body_may_go(process: Process) -> None:
    """A few hundred kilobytes that are a quarter of a gigabyte, as blanks and as texts."""
    for filling in (b" ", b'"rain",'):
        whole = b'{"input": [' + filling * (256 * MB // len(filling)) + b'"rain"]}'
        bomb = gzip.compress(whole, 6)
        assert len(bomb) < MB
        del whole
        before = process.read("VmRSS")
        process.clear.write_text("5")
        answer = process.client.post(
            "/v1/embeddings", content=bomb, headers=JSON | {"content-encoding": "gzip"}
        )
        message = check_error(answer, 413, "body_too_large", None)
        assert "unpacked" in message
        assert process.read("VmHWM") < before + 60 * MB


def test_as_much_as_is_taken(process: Process) -> None:
    for encoding in ("float", "base64"):
        body = {"input": ["a"] * 2_048, "encoding_format": encoding}
        vectors = process.attack("/v1/embeddings", body).json()["data"]
        assert len(vectors) == 2_048
        check_same(vectors[-1]["embedding"], vectors[0]["embedding"])
    masks = process.attack("/v1/fill-mask", {"inputs": "[MASK]", "targets": ["the"] * 1_000}).json()
    assert [one["token"] for one in masks["results"][0]["masks"][0]["candidates"]] == ["the"]
    many = process.attack("/v1/fill-mask", {"inputs": ["[MASK] " * 60] * 64}).json()
    assert [len(result["masks"]) for result in many["results"]] == [60] * 64


def test_names_of_megabytes_are_told_in_short(process: Process) -> None:
    name = "x" * 3 * MB
    for body, status, code in (
        ({"inputs": "a", "model": name}, 404, "model_not_found"),
        ({"inputs": "a", "head": name}, 422, "head_not_found"),
        ({"inputs": "a", name: 1}, 422, "unknown_field"),
        ({"inputs": [{"text": "a", name: 1}]}, 422, "unknown_field"),
        (
            b'{"inputs": "a", "' + name.encode() + b'": 1, "model": 1, "model": 2}',
            400,
            "duplicate_key",
        ),
    ):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = process.client.post("/v1/classify", content=content, headers=JSON)
        error = answer.json()["error"]
        check_error(answer, status, code, error["param"])
        assert len(answer.content) < 3_000
