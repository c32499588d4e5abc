"""The process: how it starts, what it says where it cannot, and how it ends."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from models import Pipeline
from models.bundle.manifest import FORMAT_VERSION
from tests.helpers.bundles import mark
from tests.helpers.checkpoints import change_json
from tests.helpers.process import HELD, ROOT, start_service
from tests.helpers.server import PATIENCE_S, check_error, check_same, wait_until


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
    # Said once: the log does not say it before.
    assert "cannot serve" not in done.stderr
    return last


@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("--prot=8080", 2), ("--port=no", 2)])
def test_what_is_wrong_or_asked_of_the_flags_waits_for_no_framework(flag: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "service", flag],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code
    assert "usage: python -m service" in done.stdout + done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "models.errors" in imported
    assert not {"fastapi", "uvicorn", "pydantic", "numpy", "onnxruntime"} & imported


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


class Sender:
    """A request whose body is whole only when the test says so: it is under way until then."""

    def __init__(self, connection: http.client.HTTPConnection, content: bytes) -> None:
        self._connection, self._content = connection, content
        self._answer: http.client.HTTPResponse | None = None

    def finish(self) -> http.client.HTTPResponse:
        """Send the body, and give the answer."""
        self._connection.send(self._content)
        return self.read()

    def read(self) -> http.client.HTTPResponse:
        """The answer; there is none of a connection that is closed."""
        self._answer = self._connection.getresponse()
        return self._answer

    def close(self) -> None:
        """Let go of the connection, which an answer that was not read to its end holds too."""
        if self._answer is not None:
            self._answer.close()
        self._connection.close()


@contextmanager
def send_slowly(client: httpx.Client, body: dict[str, Any]) -> Iterator[Sender]:
    """A request to embeddings that the service has begun to read."""
    content = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port, timeout=PATIENCE_S)
    with closing(Sender(connection, content)) as sender:
        connection.putrequest("POST", "/v1/embeddings")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(content)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        # The service says so once it reads the body.
        assert connection.sock.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield sender


def hold_service(
    *arguments: str, **environment: str
) -> AbstractContextManager[tuple[subprocess.Popen[str], httpx.Client]]:
    """A service that computes no text with HELD in it until it is let go."""
    return start_service(*arguments, program=("-c", HELD), **environment)


def wait_until_held(process: subprocess.Popen[str]) -> None:
    """Return once a batch has begun that waits to be let go."""
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"


def let_go(process: subprocess.Popen[str]) -> None:
    """Have it compute what it holds."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_log(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The lines that a process which has ended wrote."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def wait_until_told(process: subprocess.Popen[str], event: str) -> list[dict[str, Any]]:
    """The lines that a process writes, up to one of that event."""
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []
    while not lines or lines[-1]["event"] != event:
        lines.append(json.loads(process.stderr.readline()))
    return lines


def check_unready(client: httpx.Client) -> bool:
    """Whether it says that it is shutting down; asked over a connection of its own."""
    with httpx.Client(base_url=client.base_url) as own:
        response = own.get("/health/ready")
    if response.status_code == 200:
        return False
    assert "shutting down" in check_error(response, 503, "not_ready", None)
    return True


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_once_requests_are_answered(
    ending: signal.Signals, pretraining_bundle: Path
) -> None:
    with hold_service("--bundle", str(pretraining_bundle)) as (process, client):
        answers: list[httpx.Response] = []
        body = {"input": ["HELD", *["river " * 60] * 200]}
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v1/embeddings", json=body))
        )
        asking.start()
        wait_until_held(process)
        process.send_signal(ending)
        told = wait_until_told(process, "shutting down")
        assert (told[-1]["signal"], told[-1]["requests"]) == (ending.name, 1)
        assert not answers
        let_go(process)
        asking.join()
        assert [answer.status_code for answer in answers] == [200]
        assert len(answers[0].json()["data"]) == 201
        assert process.wait(PATIENCE_S) == 0
        lines = told + read_log(process)
        assert [line["event"] for line in lines if line["level"] != "info"] == []


def test_while_it_drains_it_answers_what_is_under_way_and_nothing_new(
    pretraining_bundle: Path,
) -> None:
    with (
        start_service("--bundle", str(pretraining_bundle)) as (process, client),
        send_slowly(client, {"input": "rain"}) as sender,
    ):
        assert client.post("/v1/embeddings", json={"input": "rain"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: check_unready(client))
        # The port answers, over a connection that was open and over new ones.
        for body in ({"input": "rain"}, {"input": "rain " * 100_000}):
            response = client.post("/v1/embeddings", json=body)
            assert "shutting down" in check_error(response, 503, "not_ready", None)
            assert response.headers["connection"] == "close"
            assert int(response.headers["retry-after"]) > 0
        response = client.get("/v1/models")
        check_error(response, 503, "not_ready", None)
        response = client.get("/health/live")
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
        told = client.get("/metrics").text
        assert 'route="/v1/embeddings",status="503"} 2.0' in told
        assert 'cloze_rejections_total{reason="not_ready"}' in told
        answer = sender.finish()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert len(json.loads(answer.read())["data"]) == 1
        assert process.wait(PATIENCE_S) == 0


def test_what_is_not_answered_in_time_gets_a_503(pretraining_bundle: Path) -> None:
    arguments, environment = ("--bundle", str(pretraining_bundle)), {"CLOZE_DRAIN_S": "0"}
    # One that is still sent, and one that waits for the trunk.
    with (
        hold_service(*arguments, **environment) as (process, client),
        send_slowly(client, {"input": "rain"}) as sender,
    ):
        answers: list[httpx.Response] = []
        body = {"input": ["HELD", *["river " * 60] * 200]}
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v1/embeddings", json=body))
        )
        asking.start()
        wait_until_held(process)
        process.send_signal(signal.SIGTERM)
        asking.join()
        message = check_error(answers[0], 503, "not_ready", None)
        assert "send it again" in message
        assert int(answers[0].headers["retry-after"]) > 0
        answer = sender.read()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        let_go(process)
        assert process.wait(PATIENCE_S) == 0
        told = [line for line in read_log(process) if line["level"] == "warning"]
        (line,) = (line for line in told if line["event"] != "request")
        assert line["requests"] == 2
        assert "CLOZE_DRAIN_S" in line["event"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(second: signal.Signals, pretraining_bundle: Path) -> None:
    with (
        start_service("--bundle", str(pretraining_bundle)) as (process, client),
        send_slowly(client, {"input": "rain"}) as sender,
    ):
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: check_unready(client))
        process.send_signal(second)
        assert process.wait(PATIENCE_S) == 128 + second
        with pytest.raises(http.client.RemoteDisconnected):
            sender.read()
        assert "second signal" in read_log(process)[-1]["event"]


def make_endless(bundle: Path) -> Path:
    """The bundle with a file that takes hours to hash, and no room: it is one hole."""
    file = bundle / "endless"
    file.touch()
    os.truncate(file, 1 << 42)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    files[file.name] = {"sha256": "0" * 64, "bytes": 1 << 42}
    change_json(bundle / "manifest.json", files=files)
    return bundle


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_models_load_ends_it(ending: signal.Signals, bundle: Path) -> None:
    make_endless(bundle)
    arguments = ("--bundle", str(bundle))
    with start_service(*arguments, awaited="/health/live") as (process, client):
        message = check_error(client.get("/health/ready"), 503, "not_ready", None)
        assert "loading" in message
        response = client.post("/v1/embeddings", json={"input": "rain"})
        check_error(response, 503, "not_ready", None)
        process.send_signal(ending)
        assert process.wait(PATIENCE_S) == 0
        told = [line["event"] for line in read_log(process)]
        assert [event for event in told if event != "request"] == ["shutting down", "ended"]


def test_a_signal_while_admin_loads_ends_it(
    bundle: Path, pretraining_bundle: Path, tmp_path: Path
) -> None:
    """What is loading is given up with everything else that is under way."""
    endless = make_endless(Path(shutil.copytree(pretraining_bundle, tmp_path / "endless")))
    environment = {"CLOZE_ADMIN_KEYS": "secret", "CLOZE_DRAIN_S": "0"}
    with start_service("--bundle", str(bundle), **environment) as (process, client):
        answers: list[httpx.Response] = []
        body = {"path": str(endless)}
        client.headers["authorization"] = "Bearer secret"
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/admin/bundles", json=body))
        )
        asking.start()
        with httpx.Client(base_url=client.base_url, headers=client.headers) as other:
            wait_until(
                lambda: any(
                    entry["state"] == "loading"
                    for entry in other.get("/admin/bundles").json()["bundles"]
                )
            )
        process.send_signal(signal.SIGTERM)
        asking.join()
        check_error(answers[0], 503, "not_ready", None)
        assert process.wait(PATIENCE_S) == 0


def test_a_model_is_replaced_while_it_answers(bundle: Path) -> None:
    """No request fails, none is answered wrongly, and the process does not grow by a model."""
    pipeline = Pipeline.open(bundle)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"input": "rain"}),
        ("/v1/fill-mask", {"inputs": "the [MASK] is cold"}),
        ("/v1/next-sentence", {"inputs": {"first": "rain", "second": "snow"}}),
    ]
    arguments, environment = ("--bundle", str(bundle)), {"CLOZE_ADMIN_KEYS": "secret"}
    with start_service(*arguments, **environment) as (process, client):
        wanted = [client.post(path, json=body).json() for path, body in bodies]
        check_same(wanted[0]["data"][0]["embedding"], pipeline.embed(["rain"])[0])
        stop, failures, turns = threading.Event(), list[BaseException](), [0] * 3

        def ask(place: int) -> None:
            path, body = bodies[place]
            with httpx.Client(base_url=client.base_url, timeout=PATIENCE_S) as own:
                while not stop.is_set() and not failures:
                    try:
                        response = own.post(path, json=body)
                        assert response.status_code == 200, response.text
                        check_same(response.json(), wanted[place])
                    except BaseException as error:
                        failures.append(error)
                    turns[place] += 1

        asking = [threading.Thread(target=ask, args=[place]) for place in range(3)]
        for thread in asking:
            thread.start()
        fingerprints = []
        for number in range(3):
            copy = shutil.copytree(bundle, bundle.with_name(f"bundle-{number}"))
            mark(copy, str(number))
            before = list(turns)
            response = client.post(
                "/admin/bundles",
                json={"path": str(copy)},
                headers={"authorization": "Bearer secret"},
            )
            assert response.status_code == 200, response.text
            fingerprints.append(response.json()["fingerprint"])
            wait_until(
                lambda before=before: (  # type: ignore[misc]
                    bool(failures) or all(map(int.__gt__, turns, before))
                )
            )
        stop.set()
        for thread in asking:
            thread.join()
        assert not failures
        assert len(set(fingerprints)) == 3
        (model,) = client.get("/v1/models").json()["data"]
        assert model["fingerprint"] == fingerprints[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert [line["event"] for line in read_log(process) if line["level"] != "info"] == []


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


@pytest.mark.parametrize(
    ("package", "environment"), [("service", ".venv-serve"), ("export", ".venv-export")]
)
def test_a_python_without_the_packages_says_which_has_them(package: str, environment: str) -> None:
    command = [sys.executable, "-S", "-m", package, *(["a", "b"] if package == "export" else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no package" in done.stderr
    assert f"or run it with {environment}/bin/python" in done.stderr
    assert "Traceback" not in done.stderr
