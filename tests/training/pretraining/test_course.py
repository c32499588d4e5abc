"""The course goes through the corpus epoch by epoch, and resumes at any place in it."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForPreTraining

from training.hardware import Hardware
from training.pretraining.course import Plan, PretrainingCourse
from training.text.store import TokenStore, tokenize_documents

PLAN = Plan(width=64, long_width=128, long_share=0.25, rows_per_batch=4, batches_per_step=2, seed=3)
CPU = Hardware(torch.device("cpu"), bfloat16=False)


@pytest.fixture
def small_store(documents: list[list[str]], tokenizer: Tokenizer) -> TokenStore:
    """A corpus of some twenty rows: an epoch is three steps."""
    return tokenize_documents(documents[:12], tokenizer)


def make_course(config: BertConfig, store: TokenStore, plan: Plan = PLAN) -> PretrainingCourse:
    torch.manual_seed(0)
    return PretrainingCourse(BertForPreTraining(config), (store, store), plan, CPU)


def take_steps(course: PretrainingCourse, steps: range, of: int) -> Iterator[dict[str, float]]:
    for step in steps:
        yield course.take_step(step, step / of, 1e-3)


def find_weights(course: PretrainingCourse) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = course.state_dict()["model"]
    return weights


def test_a_course_resumes_exactly_wherever_it_was_saved(
    tiny_config: BertConfig, small_store: TokenStore
) -> None:
    """Also where an epoch ends, and where rows become long."""
    whole = make_course(tiny_config, small_store)
    epochs = set()
    for step in range(12):
        saved = io.BytesIO()
        torch.save(whole.state_dict(), saved)
        saved.seek(0)
        resumed = make_course(tiny_config, small_store)
        resumed.load_state_dict(torch.load(saved, weights_only=True))
        both = [course.take_step(step, step / 12, 1e-3) for course in (whole, resumed)]
        assert both[0] == both[1], (step, resumed.position)
        assert whole.position == resumed.position
        wanted = find_weights(whole)
        for name, weight in find_weights(resumed).items():
            assert torch.equal(weight, wanted[name]), (step, name)
        epochs.add(whole.position.epoch)
    assert len(epochs) > 2


def test_epochs_follow_each_other(tiny_config: BertConfig, small_store: TokenStore) -> None:
    course = make_course(tiny_config, small_store)
    places = [
        (course.position.epoch, course.position.row) for _ in take_steps(course, range(8), 100)
    ]
    assert places == sorted(places)
    assert places[-1][0] > places[0][0]


def test_rows_are_long_at_the_end(tiny_config: BertConfig, small_store: TokenStore) -> None:
    course = make_course(tiny_config, small_store)
    widths = [course.position.width for _ in take_steps(course, range(12), 12)]
    assert widths == [64] * 9 + [128] * 3


def test_long_rows_are_fewer(tiny_config: BertConfig, store: TokenStore) -> None:
    course = make_course(tiny_config, store, replace(PLAN, batches_per_step=1))
    course.take_step(0, 0.0, 1e-3)
    assert course.position.row == 4
    course.take_step(1, 0.9, 1e-3)
    assert course.position.row == 2


def test_batches_of_a_step_count_alike(tiny_config: BertConfig, store: TokenStore) -> None:
    course = make_course(tiny_config, store)
    figures = course.take_step(0, 0.0, 1e-3)
    assert 0.8 * 8 * 64 < figures["tokens"] <= 8 * 64
    assert figures["loss"] > figures["mlm_loss"] > 0


def test_validation_changes_nothing(tiny_config: BertConfig, small_store: TokenStore) -> None:
    one, other = (make_course(tiny_config, small_store) for _ in range(2))
    first = one.validate()
    assert first == one.validate()
    assert set(first) >= {"validation_mlm_loss", "validation_nsp_accuracy"}
    assert list(take_steps(one, range(2), 9)) == list(take_steps(other, range(2), 9))
    assert one.validate()["validation_mlm_loss"] != first["validation_mlm_loss"]
