"""The command line as its users have it: exit codes, sentences, and nothing left behind."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.__main__ import main
from models import Pipeline
from models.bundle import Bundle
from tests.checkpoints import add_head, change_json, make_checkpoint, make_tokenizer, write_json

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Break = Callable[[Path], Any]


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


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_tokenizer(source: Path) -> None:
    for file in source.glob("tokenizer*"):
        file.unlink()


def make_tokenizer_too_large(source: Path) -> None:
    tokenizer = make_tokenizer("bert")
    tokenizer.add_tokens([f"extra{number}" for number in range(20)])
    tokenizer.save_pretrained(source)


def lose_a_weight(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.bias")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})


def bend_a_weight(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] = torch.zeros(31)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})


def config(**changes: Any) -> Break:
    return lambda source: change_json(source / "config.json", **changes)


def text(name: str, content: str) -> Break:
    return lambda source: (source / name).write_text(content)


BROKEN: dict[str, tuple[int, str, Break]] = {
    "no config": (3, "config.json is not there", lambda s: (s / "config.json").unlink()),
    "broken config": (3, "config.json cannot be read", text("config.json", "{")),
    "config of bytes": (
        3,
        "config.json cannot be read",
        lambda s: (s / "config.json").write_bytes(b"\xff\xfe\x00"),
    ),
    "config is a list": (3, "config.json is not a JSON object", text("config.json", "[]")),
    "config without a kind": (4, "model_type None", config(model_type=None)),
    "config with a wrong value": (3, "config.json is not usable", config(hidden_size="wide")),
    "unknown model_type": (4, "model_type 'gpt2'; supported are bert,", config(model_type="gpt2")),
    "model_type is a list": (4, "model_type ['bert']", config(model_type=["bert"])),
    "unknown architecture": (4, "'BertForMe'", config(architectures=["BertForMe"])),
    "architecture of another family": (
        4,
        "'RobertaModel', which is not one of transformers' bert models",
        config(architectures=["RobertaModel"]),
    ),
    "architecture is no model": (4, "'BertConfig'", config(architectures=["BertConfig"])),
    "architectures is a number": (4, "architecture", config(architectures=7)),
    "architecture without its head's weights": (
        3,
        "lacks weights of BertForMaskedLM: cls.predictions",
        config(architectures=["BertForMaskedLM"]),
    ),
    "no weights": (3, "has no weights", lambda s: (s / "model.safetensors").unlink()),
    "cut weights": (3, "cannot be loaded", lambda s: cut(s / "model.safetensors")),
    "empty weights": (
        3,
        "cannot be loaded",
        lambda s: (s / "model.safetensors").write_bytes(b""),
    ),
    "a weight missing": (3, "lacks weights of BertModel", lose_a_weight),
    "a weight of another shape": (3, "cannot be loaded", bend_a_weight),
    "no tokenizer": (3, "has no tokenizer", drop_tokenizer),
    "broken tokenizer": (3, "tokenizer in", text("tokenizer.json", "{")),
    "tokenizer larger than the embeddings": (
        4,
        "token ids up to 355, the model only 344",
        make_tokenizer_too_large,
    ),
    "relative positions": (
        4,
        "relative_key position embeddings",
        config(position_embedding_type="relative_key"),
    ),
    "Dense after the transformer": (
        4,
        "has a Dense module",
        lambda s: write_json(
            s / "modules.json",
            [
                {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "path": "1", "type": "sentence_transformers.models.Dense"},
            ],
        ),
    ),
    "modules.json is broken": (3, "modules.json cannot be read", text("modules.json", "[{")),
    "modules.json is no list": (3, "modules.json", text("modules.json", "5")),
    "modules.json is a list of words": (3, "modules.json", text("modules.json", '["Pooling"]')),
    "sentence_bert_config.json is no object": (
        3,
        "sentence_bert_config.json",
        text("sentence_bert_config.json", "[1]"),
    ),
    "a head without an architecture": (
        4,
        "names architecture ''",
        lambda s: write_json(s / "heads" / "mood" / "config.json", {"model_type": "bert"}),
    ),
    "a head without weights": (
        3,
        "has no weights",
        lambda s: (
            add_head(s, "mood", "BertForSequenceClassification") / "model.safetensors"
        ).unlink(),
    ),
    "a head of another width": (
        3,
        "another hidden_size than the trunk",
        lambda s: change_json(
            add_head(s, "mood", "BertForSequenceClassification") / "config.json", hidden_size=64
        ),
    ),
    "a head whose weights are cut": (
        3,
        "cannot be read",
        lambda s: cut(add_head(s, "mood", "BertForSequenceClassification") / "model.safetensors"),
    ),
    "a head with broken config": (
        3,
        "config.json",
        lambda s: (add_head(s, "mood", "BertForSequenceClassification") / "config.json").write_text(
            "{"
        ),
    ),
    "a head whose config is a list": (
        3,
        "config.json",
        lambda s: (add_head(s, "mood", "BertForSequenceClassification") / "config.json").write_text(
            "[]"
        ),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_checkpoint(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    code, sentence, damage = BROKEN[what]
    damage(source)
    out = tmp_path / "out" / "bundle"
    found = main([str(source), str(out)])
    error = capsys.readouterr().err
    assert sentence in error
    assert found == code, error
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert list(out.parent.iterdir()) == []


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


def test_out_that_cannot_be_written(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    for out, sentence in (
        (tmp_path, "exists; remove it, choose another OUT, or give --replace"),
        (tmp_path / "full", "exists"),
        (file, "exists"),
        (tmp_path / "link", "exists"),
        (file / "bundle", "cannot be made"),
        (file / "deeper" / "bundle", "cannot be made"),
        (tmp_path / ("x" * 300), "cannot be"),
        (Path("/proc/bundle"), "cannot be written"),
    ):
        assert main([str(trunk_source), str(out)]) == 5
        assert sentence in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "link"]


def test_a_bundle_is_replaced_when_asked(
    pretraining_source: Path,
    trunk_source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main([str(pretraining_source), str(out), "--replace"]) == 0
    before = Bundle.open(out)
    # What fails leaves what was there.
    assert main([str(trunk_source), str(out), "--replace", "--tasks", "classify"]) == 4
    assert Bundle.open(out) == before
    assert main([str(trunk_source), str(out)]) == 5
    assert main([str(trunk_source), str(out), "--replace"]) == 0
    assert Bundle.open(out).manifest.tasks == ("embed",)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_only_a_bundle_is_replaced(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "mine/letter", "link"):
        assert main([str(trunk_source), str(tmp_path / name), "--replace"]) == 5
        assert "is not a bundle" in capsys.readouterr().err
    assert (tmp_path / "mine/letter").read_text() == "mine"


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
        "trunk.fp32.onnx",
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


def test_hub_id_that_is_not_in_the_cache(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    code, printed, err = run(["org/none", out, "--revision", "main"], HF_HOME=str(tmp_path / "hub"))
    assert (code, printed) == (3, "")
    assert "neither a directory here nor in the hub's cache" in err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert not out.exists()


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
        ["org/tiny", out, "--name", "tiny-pretraining"],
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


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("kind", ["torch", "plain"])
def test_a_pickle_that_would_do_harm(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    harm = tmp_path / "harm"
    weights = load_file(source / "model.safetensors") | {"x": Harm(harm)}
    (source / "model.safetensors").unlink()
    file = source / "pytorch_model.bin"
    if kind == "torch":
        torch.save(weights, file)
    else:
        file.write_bytes(pickle.dumps(weights))
    assert main([str(source), str(tmp_path / "bundle")]) == 3
    assert "cannot be loaded" in capsys.readouterr().err
    assert not harm.exists()
    assert not (tmp_path / "bundle").exists()
    # It would have: the file is what it claims to be.
    if kind == "plain":
        pickle.loads(file.read_bytes())
        assert harm.exists()


def test_code_in_a_checkpoint_never_runs(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm = tmp_path / "harm"
    code = f"import pathlib\npathlib.Path({str(harm)!r}).mkdir()\nclass Config: pass\n"
    (source / "evil.py").write_text(code)
    change_json(
        source / "config.json",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Config"},
    )
    change_json(source / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Config", None]})
    main([str(source), str(tmp_path / "bundle"), "--tasks", "embed"])
    capsys.readouterr()
    assert not harm.exists()
    change_json(source / "config.json", architectures=["EvilModel"])
    assert main([str(source), str(tmp_path / "other")]) == 4
    assert "remote code is never run" in capsys.readouterr().err
    assert not harm.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_half_way(pretraining_source: Path, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    process = start([pretraining_source, folder / "bundle"])
    try:
        # The first file of the bundle is there, the rest is not.
        until = time.monotonic() + 120
        while not list(folder.glob(".bundle.*.partial/tokenizer.json")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    left = [path.name for path in folder.iterdir()]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert all(name.startswith(".") and name.endswith(".partial") for name in left)
    else:
        assert process.returncode == 128 + number
        assert left == []
        assert "Traceback" not in err


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
