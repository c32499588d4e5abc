"""The optimizer steps along orthogonal matrices, and goes on exactly from a saved state."""

import io

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from training.pretraining.batches import Epoch
from training.pretraining.losses import compute_outcome
from training.pretraining.optimizer import Optimizer, orthogonalize
from training.text.store import TokenStore


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (2, 32, 40)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 37
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_directions_are_kept() -> None:
    """The nearest orthogonal matrix is U V^T of the singular value decomposition."""
    matrix = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found, wanted = orthogonalize(matrix).flatten(), (left @ right).flatten()
    assert torch.cosine_similarity(found, wanted, dim=0) > 0.95


def test_matrices_of_a_batch_do_not_mix() -> None:
    matrices = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(2))
    together = orthogonalize(matrices)
    for number in range(3):
        torch.testing.assert_close(together[number], orthogonalize(matrices[[number]])[0])


def make_model(config: BertConfig) -> BertForPreTraining:
    torch.manual_seed(0)
    return BertForPreTraining(config)


def take_steps(
    model: BertForPreTraining, optimizer: Optimizer, epoch: Epoch, steps: range
) -> list[float]:
    losses = []
    for step in steps:
        rng = np.random.default_rng(step)
        outcome = compute_outcome(model, epoch.make_batch(0, 6, model.config.vocab_size, rng))
        outcome.loss.backward()
        optimizer.step(5e-3)
        losses.append(outcome.loss.item())
    return losses


def test_a_saved_state_goes_on_exactly(tiny_config: BertConfig, store: TokenStore) -> None:
    epoch = Epoch(store, 64, 0, 0)
    whole, first, second = (make_model(tiny_config) for _ in range(3))
    take_steps(whole, Optimizer(whole), epoch, range(6))

    saved = io.BytesIO()
    optimizer = Optimizer(first)
    take_steps(first, optimizer, epoch, range(3))
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    state = torch.load(saved, weights_only=True)
    second.load_state_dict(state["model"])
    resumed = Optimizer(second)
    resumed.load_state_dict(state["optimizer"])
    take_steps(second, resumed, epoch, range(3, 6))

    for (name, one), other in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_steps_lower_the_loss(tiny_config: BertConfig, store: TokenStore) -> None:
    model = make_model(tiny_config)
    losses = take_steps(model, Optimizer(model), Epoch(store, 64, 0, 0), range(30))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3


def test_frozen_weights_stay(tiny_config: BertConfig, store: TokenStore) -> None:
    model = make_model(tiny_config)
    model.bert.encoder.layer[0].requires_grad_(requires_grad=False)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    take_steps(model, Optimizer(model), Epoch(store, 64, 0, 0), range(2))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == ("layer.0." in name), name


def test_gradients_are_dropped_after_a_step(tiny_config: BertConfig, store: TokenStore) -> None:
    model = make_model(tiny_config)
    take_steps(model, Optimizer(model), Epoch(store, 64, 0, 0), range(1))
    assert all(weight.grad is None for weight in model.parameters())
