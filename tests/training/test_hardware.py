"""Both commands on a processor that computes in bfloat16, whichever this one is."""

from pathlib import Path

import pytest
import torch

from tests.training.runs import finetune, pretrain, read_log
from training.hardware import Hardware, find_hardware

BFLOAT16 = Hardware(torch.device("cpu"), bfloat16=True)


def test_what_is_found_can_be_told() -> None:
    assert str(find_hardware()) in ("cuda, bf16", "cuda, fp32", "cpu, bf16", "cpu, fp32")
    assert str(BFLOAT16) == "cpu, bf16"


def test_pretraining_in_bfloat16(
    data: Path, vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.pretrain.find_hardware", lambda: BFLOAT16)
    (record,) = read_log(pretrain(data, tmp_path / "run", vocabulary, steps=2))
    assert 0 <= record["validation_mlm_accuracy"] <= 1


def test_finetuning_in_bfloat16(
    data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.finetune.find_hardware", lambda: BFLOAT16)
    (record,) = read_log(finetune(data, pretrained, tmp_path / "run", steps=8))
    assert -1 <= record["similarity_correlation"] <= 1
    assert 0 <= record["emotions_f1"] <= 1
