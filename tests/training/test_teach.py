"""A teacher's vectors: kept whole whatever happens, and learnt by a student."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForPreTraining

from models import Pipeline
from training import teach as command
from training.errors import DataMissing, RunDamaged, RunMismatch
from training.finetuning.lessons import TeacherLesson
from training.finetuning.taught import TaughtTexts, describe_vocabulary, open_taught
from training.teach import draw_texts, main
from training.text.documents import find_files
from training.text.vocabulary import save_vocabulary

CORPUS = ("wiki/train-*.jsonl.xz",)


@pytest.fixture
def run(vocabulary: Path, tmp_path: Path) -> Path:
    """As much of a student's run as is asked for."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(vocabulary, folder / "tokenizer.json")
    return folder


def ask(data: Path, run: Path, teacher: Path, out: Path, *options: str) -> int:
    given = ["--data", data, "--run", run, "--teacher", teacher, "--out", out]
    return main([*map(str, given), "--texts", "90", "--corpus", *CORPUS, *options])


def test_texts_are_spread_over_the_corpus_and_the_same_each_time(data: Path) -> None:
    files = find_files(data, CORPUS)
    everything = list(draw_texts(files, 1_000_000))
    some = list(draw_texts(files, 200))
    assert len(everything) > 800
    assert 150 < len(some) <= 200
    assert some == list(draw_texts(files, 200))
    assert set(some) <= set(everything)
    assert everything.index(some[-1]) > 0.8 * len(everything)
    assert any(text.count(".") > 1 for text in everything)
    assert any(text.count(".") == 1 for text in everything)


def test_the_teachers_vectors_stand_beside_the_students_tokens(
    data: Path, run: Path, minilm_bundle: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    out = tmp_path / "taught"
    assert ask(data, run, minilm_bundle, out) == 0
    taught = open_taught(out, describe_vocabulary(tokenizer))
    texts = list(draw_texts(find_files(data, CORPUS), 90))
    assert len(taught) == len(texts)
    vectors = Pipeline.open(minilm_bundle).embed(texts[:9])
    np.testing.assert_allclose(taught.vectors[:9], vectors, atol=1e-3)
    assert taught.read(4).tolist() == tokenizer.encode(texts[4]).ids
    with pytest.raises(RunMismatch, match="another vocabulary"):
        open_taught(out, "other")
    (out / "vectors.f16").write_bytes(b"")
    with pytest.raises(RunDamaged, match="not whole"):
        open_taught(out, describe_vocabulary(tokenizer))
    with pytest.raises(DataMissing, match=r"training\.teach"):
        open_taught(tmp_path, describe_vocabulary(tokenizer))


def test_what_was_stopped_goes_on(  # noqa: PLR0917 - all of them are fixtures
    data: Path,
    run: Path,
    minilm_bundle: Path,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_AT_ONCE", 25)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ask(data, run, minilm_bundle, whole) == 0
    embed, calls = Pipeline.embed, []

    def stop_at_the_third(pipeline: Pipeline, *given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(pipeline, *given, **options)

    monkeypatch.setattr(Pipeline, "embed", stop_at_the_third)
    assert ask(data, run, minilm_bundle, broken) == 130
    # Half of what the third wrote, as a machine that went off leaves it.
    with (broken / "vectors.f16").open("ab") as file:
        file.write(b"half of it")
    assert ask(data, run, minilm_bundle, broken) == 0
    assert len(calls) == 1 + math.ceil(len(list(draw_texts(find_files(data, CORPUS), 90))) / 25)
    for name in ("tokens.u16", "lengths.u16", "vectors.f16"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    # Another vocabulary, or another number, is another folder's.
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens(["anchorage"])
    save_vocabulary(other, run / "tokenizer.json")
    assert ask(data, run, minilm_bundle, broken) == 1
    assert ask(data, run, minilm_bundle, whole, "--texts", "91") == 1


@pytest.mark.parametrize("dimensions", [32, 24])
def test_a_student_comes_to_its_teacher(tiny_config: BertConfig, dimensions: int) -> None:
    """Also where its vectors are longer: then they are only as like each other."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    model = BertForPreTraining(tiny_config)
    # Texts of two kinds of tokens, whose vectors say how much of each there is.
    lengths = rng.integers(4, 12, 60)
    texts = [rng.integers(5, 60, length) for length in lengths]
    kinds = np.array([[(text < 30).mean(), (text >= 30).mean()] for text in texts])
    vectors = (kinds @ rng.normal(size=(2, dimensions))).astype(np.float16)
    taught = TaughtTexts(
        np.concatenate(texts).astype(np.uint16), np.concatenate([[0], np.cumsum(lengths)]), vectors
    )
    lesson = TeacherLesson("teacher", 1.0, model.bert, taught, 24)
    optimizer = torch.optim.AdamW(model.bert.parameters(), lr=2e-3)
    losses = []
    for step in range(80):
        loss, tokens = lesson.compute_loss(np.random.default_rng(step))
        assert tokens > 0
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
