"""Who takes part: how each is made ready, how it is started, and how exact it says it is."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.minilm import ROOT, find_checkpoint
from benchmarks.results import RESULTS, say
from benchmarks.servers import HOST, Server, sentence_transformers
from models.engines.library import Kernels, find_kernels

ENVIRONMENTS = ROOT / ".venv-duel"
FOLDER = RESULTS / "duel"
_APP = "benchmarks.duel.applications"
REFERENCE = "sentence-transformers onnx"
CLOZE = "cloze"


@dataclass(frozen=True, slots=True)
class Rival:
    """One that takes part. `cosine` is the least that its vectors must have to the reference's."""

    server: Server
    cosine: float

    @property
    def name(self) -> str:
        """As it stands in the tables."""
        return self.server.name


def list_rivals(baseline: Path) -> Iterator[Rival]:
    """Cloze in each precision, then all that are installed here."""
    bundle = _export()
    kernels = find_kernels()
    half = isinstance(kernels, Kernels) and kernels.half
    for precision in ("fp32", "int8", *(["bf16"] if half else [])):
        yield _cloze(bundle, precision)
    reference = sentence_transformers(baseline)
    model = Path(reference.environment["BASELINE_MODEL"])
    yield Rival(_rename(reference, REFERENCE), 0.9999)
    torch = _app("sentence-transformers torch", Path.cwd() / baseline, find_checkpoint())
    yield Rival(torch, 0.9999)
    for name, describe in _OTHERS.items():
        python = ENVIRONMENTS / name / "bin" / "python"
        if not python.exists():
            say(f"{name} is left out: {python.parent.parent.relative_to(ROOT)} is not there")
            continue
        yield from describe(python, model)


def _cloze(bundle: Path, precision: str) -> Rival:
    command = (sys.executable, "-m", "service", "--bundle", str(bundle), "--port", "{port}")
    server = Server(f"{CLOZE} {precision}", command, {"CLOZE_PRECISION": precision})
    return Rival(server, {"fp32": 0.9999, "int8": 0.99, "bf16": 0.9998}[precision])


def _export() -> Path:
    """The bundle in every precision, made anew: it is of the code that is measured."""
    out = FOLDER / "bundle" / "all-MiniLM-L6-v2"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "export", str(find_checkpoint()), str(out)]
    options = ["--precision", "fp32,int8,bf16", "--accept-loss"]
    subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return out


def _rename(server: Server, name: str) -> Server:
    return Server(name, server.command, server.environment, server.folder)


def _app(name: str, python: Path, model: Path, engine: str = "sentence-transformers") -> Server:
    quiet = ("--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--http", "httptools")
    where = ("--host", HOST, "--port", "{port}")
    command = (str(python), "-m", "uvicorn", "--factory", f"{_APP}:create_app", *where, *quiet)
    environment = {"DUEL_MODEL": str(model), "DUEL_ENGINE": engine, "HF_HUB_OFFLINE": "1"}
    return Server(name, command, environment)


def _fastembed(python: Path, model: Path) -> Iterator[Rival]:
    yield Rival(_app("fastembed", python, model, "fastembed"), 0.9999)


def _ctranslate2(python: Path, model: Path) -> Iterator[Rival]:
    for precision, cosine in (("float32", 0.9999), ("int8", 0.95)):
        out = FOLDER / f"ctranslate2-{precision}"
        if not (out / "model.bin").exists():
            converter = str(python.with_name("ct2-transformers-converter"))
            options = ["--model", str(find_checkpoint()), "--output_dir", str(out), "--force"]
            command = [converter, *options, "--quantization", precision]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            shutil.copy(model / "tokenizer.json", out)
        shown = {"float32": "fp32"}.get(precision, precision)
        yield Rival(_app(f"ctranslate2 {shown}", python, out, "ctranslate2"), cosine)


def _litserve(python: Path, model: Path) -> Iterator[Rival]:
    command = (str(python), "-m", "benchmarks.duel.litserve_app", str(model), "{port}")
    server = Server("litserve", command, {"HF_HUB_OFFLINE": "1"}, ready="/health")
    yield Rival(server, 0.9999)


def _infinity(python: Path, _: Path) -> Iterator[Rival]:
    options = ("--model-id", str(find_checkpoint()), "--engine", "torch", "--device", "cpu")
    where = ("--host", HOST, "--port", "{port}", "--no-model-warmup", "--log-level", "error")
    command = (str(python.with_name("infinity_emb")), "v2", *options, *where)
    # Else it tells its maker of each start, which this machine cannot.
    environment = {
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }
    server = Server("infinity", command, environment, route="/embeddings", ready="/health")
    yield Rival(server, 0.9999)


def _vllm(python: Path, _: Path) -> Iterator[Rival]:
    options = ("--host", HOST, "--port", "{port}", "--dtype", "bfloat16", "--runner", "pooling")
    # Its command line asks for a package of another name than that of the build for CPUs.
    module = ("-m", "vllm.entrypoints.openai.api_server", "--model", str(find_checkpoint()))
    command = (str(python), *module, *options)
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    server = Server("vllm bf16", command, environment, ready="/health")
    yield Rival(server, 0.999)


def _llamacpp(python: Path, _: Path) -> Iterator[Rival]:
    """llama.cpp's server as llama-cpp-python has it, of weights in fp32 and in eight bits."""
    for kind, name, cosine in (("f32", "fp32", 0.9999), ("q8_0", "q8", 0.99)):
        weights = FOLDER / f"llamacpp-{kind}.gguf"
        if not weights.exists():
            _convert_to_gguf(python, weights, kind)
        threads = [f"--n_threads{which}" for which in ("", "_batch")]
        options = [part for each in threads for part in (each, str(os.cpu_count() or 1))]
        options += ["--embedding", "true", "--n_ctx", "512", "--n_batch", "512"]
        where = ("--host", HOST, "--port", "{port}", "--verbose", "false")
        command = (str(python), "-m", "llama_cpp.server", "--model", str(weights), *options, *where)
        server = Server(f"llama.cpp {name}", command, ready="/v1/models")
        yield Rival(server, cosine)


def _convert_to_gguf(python: Path, weights: Path, kind: str) -> None:
    """By llama.cpp's own converter, which is in the package's source and runs on our torch."""
    source = FOLDER / "llamacpp-source"
    if not source.exists():
        version = read_versions(python)["llama_cpp_python"]
        named = f"llama-cpp-python=={version}"
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(FOLDER), "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, named]
        subprocess.run(command, check=True)
        (packed,) = FOLDER.glob("llama_cpp_python-*.tar.gz")
        shutil.unpack_archive(packed, source, filter="data")
    (converter,) = source.glob("*/vendor/llama.cpp/convert_hf_to_gguf.py")
    options = ["--outfile", str(weights), "--outtype", kind]
    command = [sys.executable, str(converter), str(find_checkpoint()), *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


_OTHERS: dict[str, Callable[[Path, Path], Iterator[Rival]]] = {
    "fastembed": _fastembed,
    "ctranslate2": _ctranslate2,
    "litserve": _litserve,
    "infinity": _infinity,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
}


def read_versions(python: Path) -> dict[str, str]:
    """The packages of an environment and their versions."""
    script = (
        "import json; from importlib.metadata import distributions as d; "
        "print(json.dumps({x.metadata['Name']: x.version for x in d()}))"
    )
    done = subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
