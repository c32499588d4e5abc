"""The way of someone who knows the README alone: serve, a model of one's own, keys, a load test.

What is done is taken from the pages as it stands there; other are only what a machine for tests
lacks: the environments that make makes, the hub, and Docker, which tests/deploy asks in its place.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.helpers.process import ROOT, start_service
from tests.helpers.server import wait_until

README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def find_block(page: str, words: str) -> list[str]:
    """The lines of the block of commands that has these words, without what make does here."""
    (block,) = [found for found in _BLOCK.findall(page) if words in found]
    return [line for line in block.splitlines() if line and not line.startswith("make ")]


def run(line: str, **changed: str) -> str:
    """One line as it is written, by this environment, with some of its words changed."""
    line = re.sub(r"(\.venv\S*/bin/)?python(?= -m)", sys.executable, line)
    for word, other in changed.items():
        assert word in line, line
        line = line.replace(word, other)
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def split_flags(line: str) -> list[str]:
    """What stands behind `python -m service`."""
    return shlex.split(line.partition("-m service")[2], comments=True)


def test_the_way_through(
    pretraining_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of one's own: made, and served beside the one that is there.
    export, serve = find_block(README, "-m service --bundle bundles/bert")
    own = tmp_path / "bert"
    run(
        export,
        **{"google-bert/bert-base-uncased": str(pretraining_source), "bundles/bert": str(own)},
    )
    flags = [str(own) if each == "bundles/bert" else each for each in split_flags(serve)]
    keys = tmp_path / "keys.txt"
    make_key, serve_closed, ask = find_block(SETTINGS, "service.keys shop")
    assert serve_closed.split() == ["CLOZE_API_KEYS_FILE=keys.txt", "make", "serve"]
    told = run(make_key, **{"keys.txt": str(keys)})
    key = re.search(r"not shown again: (\S+)", told)
    assert key is not None
    with start_service(*flags, CLOZE_API_KEYS_FILE=str(keys)) as (process, client):
        asked = {"model": "bert", "inputs": "the [MASK]"}
        assert client.post("/v1/fill-mask", json=asked).status_code == 401
        client.headers["authorization"] = f"Bearer {key[1]}"
        names = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert names == ["bert", "lacuna-mini"]
        for name in names:
            answer = client.post("/v1/fill-mask", json=asked | {"model": name})
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == name
        asking = {"KEY'": f"{key[1]}'", "http://127.0.0.1:8080": str(client.base_url).rstrip("/")}
        assert '"lacuna-mini"' in run(ask, **asking)
        # Revoked: another one in its place, and the signal.
        other = re.search(r"not shown again: (\S+)", run(make_key, **{"keys.txt": str(keys)}))
        assert other is not None
        keys.write_text(keys.read_text().splitlines()[-1] + "\n")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: client.get("/v1/models").status_code == 401)
        client.headers["authorization"] = f"Bearer {other[1]}"
        assert client.get("/v1/models").status_code == 200
        process.terminate()
        assert process.wait(30) == 0


def test_the_load_test_of_the_readme(default_service: httpx.Client, tmp_path: Path) -> None:
    """The line that `make loadtest` runs, for seconds instead of a minute."""
    assert "make loadtest" in README
    recipe = MAKEFILE.partition("\nloadtest: ")[2].partition("\n\n")[0]
    line = recipe.partition("\tmkdir -p loadtest/results\n\t")[2].replace("\\\n", " ")
    line = line.replace("$(HOST)", str(default_service.base_url)).replace("$(ARGS)", "")
    line = line.replace(".venv-loadtest/bin/python", sys.executable)
    line = line.replace("loadtest/results", str(tmp_path)).replace("--users 16", "--users 4")
    line = line.replace("--run-time 60s", "--run-time 5s")
    done = subprocess.run(
        shlex.split(line),
        cwd=ROOT,
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    # 1 is a bound that was missed, which a busy machine may.
    assert done.returncode in (0, 1), done.stderr[-2000:]
    found = list(tmp_path.glob("*.json"))
    assert found, done.stderr[-2000:]
    assert json.loads(found[0].read_text())


def test_what_the_pages_say_of_commands() -> None:
    """Each is run here or elsewhere by a test, or needs what a machine for tests lacks."""
    lacking = (
        "docker",
        "kubectl",
        "deploy/",
        "openssl",
        "sed -i",
        "cd deploy",
        "pip uninstall",
        "onnxruntime-gpu",
        "DATA",
        "$URL",
    )
    tested = {
        "make": "Makefile",
        "curl": "tests/test_readme.py",
        "python -m export": "tests/export/test_main.py",
        "python -m service --engines": "tests/openvino/test_openvino.py",
        "python -m service.keys": "tests/test_newcomer.py",
        "python -m service": "tests/test_newcomer.py",
        "python -m loadtest.drill": "tests/loadtest/test_drill.py",
        "python -c": "tests/export/test_setfit.py",
        "CLOZE_API_KEYS_FILE": "tests/test_newcomer.py",
        "CLOZE_ALIASES": "tests/service/registry/test_aliases.py",
        "mkdir": "docker",
    }
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("deploy/*/README.md")]
    for page in pages:
        for block in _BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"^\.venv\S*/bin/", "", line.split("  # ")[0].strip())
                known = [name for name in tested if command.startswith(name)]
                assert (
                    not command
                    or known
                    or any(word in command for word in lacking)
                    or command.startswith("python -m training")
                ), f"{page.name}: {command}"
    for file in set(tested.values()) - {"docker"}:
        assert (ROOT / file).exists(), file
