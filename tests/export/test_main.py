"""The command line as its users have it: exit codes, sentences, and nothing left behind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from export.__main__ import main
from models import Pipeline
from models.bundle.bundle import Bundle
from tests.helpers.bundles import list_trunks
from tests.helpers.checkpoints import make_checkpoint, write_json
from tests.helpers.fixtures import TakeGraphs
from tests.helpers.store import Store

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def start(arguments: Sequence[str | Path], **environment: str) -> subprocess.Popen[str]:
    """The real command, in a process of its own that cannot reach the hub."""
    return subprocess.Popen(
        [sys.executable, "-m", "export", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(arguments: Sequence[str | Path], **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the real command."""
    process = start(arguments, **environment)
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def trunk_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BertModel: encoder, no head."""
    return make_checkpoint(tmp_path_factory.mktemp("trunk"), "bert", "BertModel")


@pytest.fixture
def source(trunk_source: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(trunk_source, tmp_path / "source"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: source, out"),
        (["source"], "the following arguments are required: out"),
        (["source", "out", "--tasks", "fly"], "'fly' is not one of embed, fill-mask"),
        (["source", "out", "--tasks", ","], "name at least one"),
        (["source", "out", "--precision", "fp64"], "'fp64' is not one of"),
        (["source", "out", "--pooling", "sum"], "invalid choice: 'sum'"),
        (["source", "out", "--colour"], "unrecognized arguments"),
        (["inspect"], "required: bundle"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


def test_sources_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    for source, sentence in (
        (str(tmp_path / "no"), "does not exist; give a directory or a hub id"),
        ("./no", "does not exist"),
        ("a/b/c", "does not exist"),
        (str(file), "is a file; give the directory"),
    ):
        assert main([source, str(tmp_path / "out")]) == 3
        assert sentence in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path / "out"), "--revision", "main"]) == 3
    assert "--revision goes with a hub id only" in capsys.readouterr().err


def test_a_bundle_is_replaced_when_asked(
    pretraining_source: Path,
    trunk_source: Path,
    tmp_path: Path,
    take_graphs: TakeGraphs,
    exports: Store,
) -> None:
    graphs = [
        exports.export(pretraining_source, "tiny-pretraining"),
        exports.export(trunk_source, "trunk"),
    ]
    out = tmp_path / "out"
    take_graphs(graphs[0])
    assert main([str(pretraining_source), str(out), "--replace"]) == 0
    before = Bundle.open(out)
    # What fails leaves what was there.
    assert main([str(trunk_source), str(out), "--replace", "--tasks", "classify"]) == 4
    assert Bundle.open(out) == before
    assert main([str(trunk_source), str(out)]) == 5
    take_graphs(graphs[1])
    assert main([str(trunk_source), str(out), "--replace"]) == 0
    assert Bundle.open(out).manifest.tasks == ("embed",)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_tasks(
    pretraining_source: Path,
    trunk_source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(trunk_source), str(tmp_path / "no"), "--tasks", "embed,classify"]) == 4
    assert "has no weights for classify; it answers embed" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    out = tmp_path / "some"
    assert main([str(pretraining_source), str(out), "--tasks", " next-sentence"]) == 0
    manifest = Bundle.open(out).manifest
    assert manifest.tasks == ("next-sentence",)
    assert sorted(manifest.files) == [
        "golden.json",
        "head.next-sentence.onnx",
        "tokenizer.json",
        *list_trunks("fp32"),
    ]
    assert {row.task for row in manifest.parity} == {"next-sentence"}
    assert manifest.name == "some"
    printed = capsys.readouterr().out
    assert "2 fused nodes, one a layer" in printed
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    for word in ("some", "BertForPreTraining", "next-sentence", Bundle.open(out).fingerprint):
        assert word in shown


def test_inspect_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "no bundle at" in capsys.readouterr().err


@pytest.mark.slow
def test_hub_id_that_is_not_in_the_cache(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    code, printed, err = run(["org/none", out, "--revision", "main"], HF_HOME=str(tmp_path / "hub"))
    assert (code, printed) == (3, "")
    assert "neither a directory here nor in the hub's cache" in err
    assert "or leave offline mode (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set)" in err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert not out.exists()


def test_a_hub_that_is_not_reached(tmp_path: Path) -> None:
    """Who is not in offline mode cannot leave it."""
    out = tmp_path / "bundle"
    there = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    code, _, err = run(["org/none", out], HF_HOME=str(tmp_path / "hub"), **there)
    assert code == 3
    assert "the hub cannot be reached; give a local directory, or see that this machine" in err
    assert "offline mode" not in err


def test_hub_id_from_the_cache_gives_the_same_bytes_as_a_directory(
    pretraining_source: Path, pretraining_bundle: Path, tmp_path: Path
) -> None:
    """In another process, with other hashes, from another place."""
    folder = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(pretraining_source, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    out = tmp_path / "elsewhere" / "bundle"
    code, printed, err = run(
        ["org/tiny", out, "--name", "tiny-pretraining", "--pooling", "mean"],
        HF_HOME=str(tmp_path),
        PYTHONHASHSEED="7",
        # As many threads as here: torch's own sums, and so the golden answers, depend on them.
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
    )
    assert code == 0, err
    manifest = Bundle.open(out).manifest
    assert (manifest.source.name, manifest.source.revision) == ("org/tiny", COMMIT)
    assert COMMIT in printed
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    assert out.stat().st_mode & 0o777 == 0o755
    # All but where it came from and how long its proof took is the same, to the byte.
    other = Bundle.open(pretraining_bundle).manifest
    changes = {"source": other.source, "proof": other.proof}
    assert manifest.model_copy(update=changes) == other
    for name in other.files:
        assert (out / name).read_bytes() == (pretraining_bundle / name).read_bytes(), name


def test_weights_in_a_pickle(
    trunk_source: Path, source: Path, tmp_path: Path, heads_bundle: Path
) -> None:
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(weights, source / "pytorch_model.bin")
    out = tmp_path / "bundle"
    assert main([str(source), str(out)]) == 0
    found = Pipeline.open(out).embed(["the king of france"])
    # The fixture's trunk is the same tiny model.
    wanted = Pipeline.open(heads_bundle).embed(["the king of france"])
    assert abs(found - wanted).max() < 1e-6


def test_a_partial_bundle_of_a_killed_export_does_not_open(tmp_path: Path) -> None:
    """What SIGKILL leaves has another name, and no manifest until it is almost done."""
    folder = tmp_path / ".bundle.x.partial"
    write_json(folder / "tokenizer.json", {})
    from models.errors import BundleNotFound

    with pytest.raises(BundleNotFound):
        Bundle.open(folder)


def test_golden_answers_are_json_with_every_task(pretraining_bundle: Path) -> None:
    golden = json.loads((pretraining_bundle / "golden.json").read_text())
    assert [task["task"] for task in golden["tasks"]] == ["embed", "fill-mask", "next-sentence"]
