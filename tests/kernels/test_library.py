"""The library as it is found: absent, damaged, of another version, on another processor."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import Pipeline
from models.bundle.bundle import Bundle, hash_file
from models.choice import choose_engine, list_choices
from models.engines import library
from models.engines.library import (
    LIBRARY,
    VERSION,
    Kernels,
    NoKernels,
    choose_instructions,
    find_kernels,
)
from models.errors import BundleDamaged, OperatorError
from tests.helpers.bundles import sign
from tests.helpers.checkpoints import change_json

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["the king of france", "a red house by the sea", "rain"]
BUILT = isinstance(find_kernels(), Kernels)
needs_kernels = pytest.mark.skipif(not BUILT, reason=str(getattr(find_kernels(), "reason", "")))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the library is looked for, which is nowhere yet."""
    path = tmp_path / LIBRARY.name
    monkeypatch.setattr(library, "LIBRARY", path)
    return path


def write_digest(path: Path) -> None:
    """As the build does."""
    path.with_name(f"{path.name}.sha256").write_text(f"{hash_file(path)}  {path.name}\n")


def find_reason() -> str:
    found = find_kernels()
    assert isinstance(found, NoKernels)
    return found.reason


def check_standard(bundle: Path, reason: str) -> None:
    """The standard graph answers, and says why."""
    pipeline = Pipeline.open(bundle, threads=1)
    assert pipeline.choice.engine == "onnxruntime"
    assert pipeline.choice.reason == reason
    assert np.isfinite(pipeline.embed(TEXTS)).all()
    with pytest.raises(OperatorError, match="cannot be run by kernels: "):
        Pipeline.open(bundle, threads=1, engine="kernels")


def find_choice(bundle: Path) -> str:
    return choose_engine(Bundle.open(bundle), "fp32").reason


@pytest.mark.usefixtures("elsewhere")
def test_without_the_library_the_standard_graph_runs(pretraining_bundle: Path) -> None:
    assert "`make kernels` builds them" in find_reason()
    reason = find_choice(pretraining_bundle)
    check_standard(pretraining_bundle, reason)
    assert (find_reason() if BUILT else "no graph for the kernels") in reason


@needs_kernels
def test_a_graph_for_another_version_of_the_kernels(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.choice.VERSION", VERSION + 1)
    reason = find_choice(pretraining_bundle)
    assert f"for version {VERSION} of the kernels, and this is {VERSION + 1}" in reason
    check_standard(pretraining_bundle, reason)


@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_library(elsewhere: Path, pretraining_bundle: Path, *, whole: bool) -> None:
    """Cut short it would end the process; what is no library at all is refused by the system."""
    content = b"not a library" if whole or not BUILT else LIBRARY.read_bytes()
    elsewhere.write_bytes(content)
    write_digest(elsewhere)
    if not whole:
        elsewhere.write_bytes(content[: len(content) // 2])
    assert ("cannot be loaded" if whole else "is damaged") in find_reason()
    check_standard(pretraining_bundle, find_choice(pretraining_bundle))


def test_a_library_that_nothing_vouches_for(elsewhere: Path) -> None:
    elsewhere.write_bytes(b"x")
    assert "cannot be loaded" in find_reason()


@needs_kernels
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("int cloze_version() { return 99; }", "is of version 99, not"),
        ("int other() { return 1; }", "cannot be loaded"),
        (
            f"int cloze_version() {{ return {VERSION}; }} const char* cloze_choose(const char* w) "
            "{ (void)w; return 0; }",
            "has none of the instructions",
        ),
    ],
)
def test_another_library(elsewhere: Path, source: str, sentence: str) -> None:
    code = elsewhere.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", elsewhere, code], check=True)
    write_digest(elsewhere)
    assert sentence in find_reason()


@needs_kernels
def test_a_bundle_runs_by_the_kernels_where_it_has_their_form(pretraining_bundle: Path) -> None:
    bundle = Bundle.open(pretraining_bundle)
    assert list_choices(bundle) == [("fp32", "onnxruntime"), ("fp32", "kernels")]
    ours = Pipeline(bundle, threads=1)
    assert ours.choice.engine == "kernels"
    plain = Pipeline(bundle, threads=1, engine="onnxruntime")
    np.testing.assert_allclose(ours.embed(TEXTS), plain.embed(TEXTS), atol=2e-6)
    # The same numbers alone and in company, to the last bit.
    alone = [ours.embed([text])[0] for text in TEXTS]
    np.testing.assert_array_equal(ours.embed(TEXTS), alone)


@needs_kernels
def test_a_bundle_of_an_older_exporter(pretraining_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))
    (copy / "trunk.fp32.kernels.onnx").unlink()
    files = Bundle.open(pretraining_bundle).manifest.files
    kept = {n: e.model_dump(mode="json") for n, e in files.items() if "kernels" not in n}
    change_json(copy / "manifest.json", files=kept)
    assert "export it again" in Pipeline.open(copy, threads=1).choice.reason


@needs_kernels
def test_instructions_that_there_are_not() -> None:
    with pytest.raises(OperatorError, match="has no altivec"):
        choose_instructions("altivec")
    assert isinstance(find_kernels(), Kernels)


@needs_kernels
@pytest.mark.parametrize("instructions", ["avx2", "avx512", "neon"])
def test_each_instruction_set_gives_the_golden_answers(
    instructions: str, pretraining_bundle: Path
) -> None:
    code = (
        "import sys; from models import Pipeline; from models.errors import OperatorError\n"
        "from models.engines.library import VERSION, choose_instructions\n"
        "from models.golden import check_golden\n"
        "try: choose_instructions(sys.argv[1])\n"
        "except OperatorError: sys.exit(7)\n"
        "pipeline = Pipeline.open(sys.argv[2], threads=1, engine='kernels')\n"
        "assert check_golden(pipeline)\n"
    )
    command = [sys.executable, "-c", code, instructions, str(pretraining_bundle)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode == 7:
        pytest.skip(f"this processor has no {instructions}")
    assert done.returncode == 0, done.stderr


@needs_kernels
@pytest.mark.parametrize(
    ("attribute", "value"),
    [("num_heads", each) for each in (5, 0, -1, 1 << 40)],
)
def test_a_graph_whose_nodes_lie_is_refused(
    attribute: str, value: int, pretraining_bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))
    file = copy / "trunk.fp32.kernels.onnx"
    model: Any = onnx.load(file, load_external_data=False)
    for node in model.graph.node:
        for each in node.attribute:
            if each.name == attribute:
                each.i = value
    onnx.save(model, file)
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.kernels\.onnx"):
        Pipeline.open(sign(copy, file), threads=1)
