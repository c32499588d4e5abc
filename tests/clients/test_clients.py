"""Clients of other servers, unmodified, get from ours what our own routes answer.

Those of Python run in the virtual environments of `make test-clients`, or in this one where it has
them; those of npm where `make test` could install them. Without, they are skipped.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import DEFAULT_BUNDLE
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.fixtures import MakeFolder
from tests.helpers.server import Server, serve
from tests.helpers.store import Store

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "python"
NODE = ROOT / ".cache/node"
KEY = "right"
# Of which the first are installed for all tests.
CLIENTS = {
    "openai": "openai",
    "huggingface_hub": "huggingface_hub",
    "cohere": "cohere",
    "chromadb": "chromadb",
    "dspy": "dspy",
    "haystack": "haystack",
    "infinity_client": "infinity_client",
    "langchain": "langchain_community",
    "litellm": "litellm",
    "llama_index": "llama_index",
    "openapi": "openapi_python_client",
    "semantic_kernel": "semantic_kernel",
    "tei_client": "tei_client",
    "voyageai": "voyageai",
}
# Those that want an older one of the packages above.
OLDER = {"langchain_cohere": "langchain_cohere", "llama_index_cohere": "llama_index"}
# Those that cannot send a key.
KEYLESS = {"langchain_infinity": "langchain_community", "litellm_triton": "litellm"}


@pytest.fixture(scope="module")
def bundles(reader_bundle: Path, inference_bundle: Path, ranker_bundle: Path) -> tuple[Path, ...]:
    """Every task between four models."""
    return DEFAULT_BUNDLE, reader_bundle, inference_bundle, ranker_bundle


@pytest.fixture(scope="module")
def server(bundles: tuple[Path, ...]) -> Iterator[Server]:
    """One that asks for a key."""
    with serve(*bundles, api_keys=KEY) as server:
        yield server


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def find_python(module: str, environment: str = ".venv-clients") -> str:
    """The interpreter that has this client; without one the test is skipped."""
    python = ROOT / environment / "bin/python"
    if python.exists():
        return str(python)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here; make test-clients does that")
    return sys.executable


def run_script(client: str, python: str, server: Server) -> None:
    # Their own deprecations are theirs.
    script = SCRIPTS / f"{client}_client.py"
    run([python, "-W", "ignore", str(script), server.url, KEY], SCRIPTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_python(client: str, server: Server) -> None:
    run_script(client, find_python(CLIENTS[client]), server)


@pytest.mark.parametrize("client", OLDER)
def test_clients_of_older_packages(client: str, server: Server) -> None:
    run_script(client, find_python(OLDER[client], ".venv-clients-older"), server)


@pytest.mark.parametrize("client", KEYLESS)
def test_clients_without_a_key(client: str, bundles: tuple[Path, ...]) -> None:
    python = find_python(KEYLESS[client])
    with serve(*bundles) as server:
        run_script(client, python, server)


def test_a_judge_of_text_embeddings_inference(
    make_folder: MakeFolder, exports: Store, tmp_path: Path
) -> None:
    """embed-parity: over lengths, lists and concurrent requests the vectors are the original's."""
    python = find_python("embed_parity")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = make_checkpoint(
        make_folder("judged"), "bert", "BertModel", max_position_embeddings=512
    )
    modules: list[Any] = [Transformer(str(source)), Pooling(32), Normalize()]
    # It asks that the server's model has the name by which it finds its own.
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "judged"))
    with serve(exports.export(tmp_path / "judged", "judged"), api_keys=KEY) as server:
        command = [python, "-W", "ignore", "-m", "embed_parity.cli", "compare"]
        where = ["--model", "judged", "--tei", server.url, "--tei-api-key", KEY]
        run([*command, *where, "--device", "cpu"], tmp_path)


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
    assert scripts == {f"{client}_client.py" for client in (*CLIENTS, *OLDER, *KEYLESS)}
