"""Clients of other servers, unmodified, get from ours what our own routes answer.

Those of Python run in the virtual environment of `make test-clients`, or in this one where it has
them; those of npm where `make test` could install them. Without, they are skipped.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import DEFAULT_BUNDLE
from tests.helpers.server import Server, serve

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients/bin/python"
SCRIPTS = Path(__file__).parent / "python"
NODE = ROOT / ".cache/node"
KEY = "right"
# Of which the first are installed for all tests.
CLIENTS = {
    "openai": "openai",
    "huggingface_hub": "huggingface_hub",
    "cohere": "cohere",
    "chromadb": "chromadb",
    "haystack": "haystack",
    "infinity_client": "infinity_client",
    "langchain": "langchain_community",
    "litellm": "litellm",
    "llama_index": "llama_index",
    "openapi": "openapi_python_client",
    "tei_client": "tei_client",
}


@pytest.fixture(scope="module")
def server(reader_bundle: Path, inference_bundle: Path, ranker_bundle: Path) -> Iterator[Server]:
    """Every task between four models, and a key."""
    bundles = (DEFAULT_BUNDLE, reader_bundle, inference_bundle, ranker_bundle)
    with serve(*bundles, api_keys=KEY) as server:
        yield server


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_python(client: str, server: Server) -> None:
    if PYTHON.exists():
        python = str(PYTHON)
    elif importlib.util.find_spec(CLIENTS[client]) is not None:
        python = sys.executable
    else:
        pytest.skip(f"{client} is not installed here; make test-clients does that")
    script = SCRIPTS / f"{client}_client.py"
    # Their own deprecations are theirs.
    run([python, "-W", "ignore", str(script), server.url, KEY], SCRIPTS)


@pytest.mark.parametrize("client", ["openai", "huggingface", "cohere", "ai", "openapi"])
def test_clients_of_npm(client: str, server: Server) -> None:
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules").is_dir():
        pytest.skip("Node or the packages in tests/clients/node are not installed here")
    for script in (Path(__file__).parent / "node").iterdir():
        if script.suffix in (".mjs", ".ts"):
            shutil.copy(script, NODE)
    run([node, f"{client}.mjs", server.url, KEY], NODE)


def test_every_script_is_run() -> None:
    scripts = {script.name for script in SCRIPTS.glob("*_client.py")}
    assert scripts == {f"{client}_client.py" for client in CLIENTS}
