"""The process: how it starts, what it says where it cannot, and how it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from models.manifest import FORMAT_VERSION
from tests.service.process import ROOT, start_service
from tests.service.server import PATIENCE_S, wait_until


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def find_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence that says why it could not serve: one line, the last."""
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


@pytest.fixture
def bundle(pretraining_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be spoiled."""
    return Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))


def test_a_flipped_byte_is_refused(bundle: Path) -> None:
    file = bundle / "trunk.fp32.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    sentence = find_sentence(call("--bundle", str(bundle), "--port", "0"))
    assert str(file) in sentence
    assert "export the bundle again" in sentence


def test_a_missing_file_is_refused(bundle: Path) -> None:
    file = bundle / "head.fill-mask.onnx"
    file.unlink()
    sentence = find_sentence(call("--bundle", str(bundle), "--port", "0"))
    assert str(file) in sentence
    assert "export the bundle again" in sentence


def test_a_newer_format_is_refused(bundle: Path) -> None:
    file = bundle / "manifest.json"
    content = json.loads(file.read_text()) | {"format_version": FORMAT_VERSION + 1}
    file.write_text(json.dumps(content))
    sentence = find_sentence(call("--bundle", str(bundle), "--port", "0"))
    assert str(bundle) in sentence
    assert f"format {FORMAT_VERSION + 1}" in sentence
    assert "upgrade the service" in sentence


def test_no_such_directory_is_refused(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    for done in (
        call("--bundle", nothing, "--port", "0"),
        call("--port", "0", CLOZE_BUNDLES=nothing),
    ):
        sentence = find_sentence(done)
        assert nothing in sentence
        assert "python -m export" in sentence


def test_two_bundles_of_one_name_are_refused(bundle: Path, pretraining_bundle: Path) -> None:
    done = call("--bundle", str(bundle), "--bundle", str(pretraining_bundle), "--port", "0")
    sentence = find_sentence(done)
    assert str(bundle) in sentence
    assert str(pretraining_bundle) in sentence
    assert "--name" in sentence


def test_bad_settings_are_refused() -> None:
    sentence = find_sentence(call(CLOZE_PROT="8080"))
    assert "CLOZE_PROT is not a setting" in sentence
    assert "CLOZE_PORT" in sentence
    sentence = find_sentence(call(CLOZE_PORT="tcp://10.0.0.1:80"))
    assert "CLOZE_PORT is 'tcp://10.0.0.1:80'" in sentence
    assert "unset" in sentence


def test_a_port_in_use_is_refused(pretraining_bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = find_sentence(call("--bundle", str(pretraining_bundle), "--port", str(port)))
    assert f"127.0.0.1:{port}" in sentence
    assert "--port" in sentence


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_once_requests_are_answered(
    ending: signal.Signals, pretraining_bundle: Path
) -> None:
    with start_service("--bundle", str(pretraining_bundle)) as (process, client):
        answers: list[httpx.Response] = []
        body = {"input": ["river " * 60] * 2_000}
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v1/embeddings", json=body))
        )
        asking.start()
        with httpx.Client(base_url=client.base_url) as other:
            wait_until(lambda: "cloze_batch_texts_sum" in other.get("/metrics").text)
        process.send_signal(ending)
        asking.join()
        assert [answer.status_code for answer in answers] == [200]
        assert len(answers[0].json()["data"]) == 2_000
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
        assert [line["event"] for line in lines if line["level"] != "info"] == []


def test_on_hangup_it_reads_its_bundles_again_while_it_answers(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretraining_bundle, tmp_path / "b")
    with start_service("--bundle", str(tmp_path)) as (process, client):
        assert client.post("/v1/classify", json={"inputs": "rain"}).status_code == 422
        shutil.copytree(classify_bundle, tmp_path / ".a.partial")
        (tmp_path / ".a.partial").rename(tmp_path / "a")
        stop, statuses = threading.Event(), list[int]()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=PATIENCE_S) as own:
                while not stop.is_set():
                    answer = own.post("/v1/embeddings", json={"input": "rain"})
                    statuses.append(answer.status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: bool(statuses))
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(client.get("/v1/models").json()["data"]) == 2)
        shutil.rmtree(tmp_path / "b")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(client.get("/v1/models").json()["data"]) == 1)
        before = len(statuses)
        wait_until(lambda: len(statuses) > before + 1)
        stop.set()
        asking.join()
        assert set(statuses) == {200}
        assert client.post("/v1/classify", json={"inputs": "rain"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_serving_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, models, service.__main__, service.app, service.settings, uvicorn\n"
        "heavy = {'torch', 'transformers', 'safetensors', 'huggingface_hub', 'onnx', 'export'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_lists_the_flags() -> None:
    done = call("--help")
    assert done.returncode == 0
    for flag in (
        "--bundle",
        "--precision",
        "--host",
        "--port",
        "CLOZE_BUNDLES",
        "docs/settings.md",
    ):
        assert flag in done.stdout


def test_an_unknown_flag_is_refused() -> None:
    done = call("--prot", "1")
    assert done.returncode == 2
    assert "--prot" in done.stderr
