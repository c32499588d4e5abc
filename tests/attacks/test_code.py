"""Code that comes with a checkpoint never runs; every test shows that it would have."""

import pickle
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from export.reading.checkpoint import load_checkpoint
from tests.attacks.conftest import Refuse
from tests.helpers.checkpoints import add_head, change_json


class Harm:
    """Makes a directory when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.mkdir, (self.file,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_a_pickle_that_would_do_harm(
    source: Path, tmp_path: Path, refuse: Refuse, form: str
) -> None:
    harm = tmp_path / "harm"
    weights = load_file(source / "model.safetensors") | {"x": Harm(harm)}
    (source / "model.safetensors").unlink()
    file = source / "pytorch_model.bin"
    if form == "plain":
        file.write_bytes(pickle.dumps(weights))
    else:
        torch.save(weights, file, _use_new_zipfile_serialization=form == "zip")
    refuse(source, 3, "pytorch_model.bin cannot be loaded as weights alone", "convert it")
    assert not harm.exists()
    # It would have: read with nothing held back, the file is what it claims to be.
    if form == "plain":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert harm.exists()


def test_a_pickle_beside_safetensors_is_not_opened(source: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(harm)))
    (source / "training_args.bin").write_bytes(pickle.dumps(Harm(harm)))
    load_checkpoint(str(source))
    assert not harm.exists()


@pytest.mark.parametrize("family", ["known", "unknown"])
def test_code_in_a_checkpoint_never_runs(
    source: Path,
    tmp_path: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    harm = tmp_path / "harm"
    code = f"import pathlib\npathlib.Path({str(harm)!r}).mkdir()\nclass Config: pass\n"
    for name in ("evil.py", "modeling_bert.py", "configuration_bert.py", "sitecustomize.py"):
        (source / name).write_text(code)
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForMaskedLM"), "evil.Config")
    change_json(source / "config.json", auto_map=auto)
    change_json(source / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Config", None]})
    # Even for who has agreed to it elsewhere, and stands in the directory.
    monkeypatch.setenv("HF_HUB_TRUST_REMOTE_CODE", "1")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    monkeypatch.chdir(source)
    if family == "unknown":
        change_json(source / "config.json", model_type="evil")
        refuse(source, 4, "model_type 'evil' and an auto_map", "remote code is never run")
    else:
        load_checkpoint(str(source))
    assert not harm.exists()
    change_json(source / "config.json", model_type="bert", architectures=["EvilModel"])
    refuse(source, 4, "remote code is never run")
    assert not harm.exists()
    assert "evil" not in sys.modules
    spec = spec_from_file_location("evil", source / "evil.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))
    assert harm.exists()


def test_code_in_a_head_never_runs(source: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    head = add_head(source, "mood", "BertForSequenceClassification")
    (head / "evil.py").write_text(f"import pathlib\npathlib.Path({str(harm)!r}).mkdir()\n")
    change_json(head / "config.json", auto_map={"AutoConfig": "evil.Config"})
    load_checkpoint(str(source))
    assert not harm.exists()
