"""The trunk over packed rows gives what transformers gives each text alone."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from training.rows import Ids, Rows, pack_texts
from training.trunk import run_trunk


@pytest.fixture
def model(tiny_config: BertConfig) -> BertModel:
    """A model whose norms and biases are not those it was born with."""
    torch.manual_seed(3)
    model = BertModel(tiny_config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@pytest.fixture
def texts() -> list[list[Ids]]:
    """Single texts and pairs of all lengths."""
    rng = np.random.default_rng(5)
    shapes = [(3,), (20,), (7, 9), (1,), (12, 4), (2, 2), (30,), (8,)]
    return [[rng.integers(5, 100, size) for size in shape] for shape in shapes]


def run_alone(model: BertModel, segments: list[Ids]) -> torch.Tensor:
    ids = torch.from_numpy(np.concatenate(segments))[None]
    types = torch.tensor([[kind for kind, one in enumerate(segments) for _ in one]])
    hidden: torch.Tensor = model(input_ids=ids, token_type_ids=types).last_hidden_state[0]
    return hidden


def assert_alike(found: torch.Tensor, rows: Rows, model: BertModel, texts: list[list[Ids]]) -> None:
    assert len(rows.token_ids) < len(texts)
    for text, segments in enumerate(texts):
        begin = rows.first_cells[text]
        wanted = run_alone(model, segments)
        torch.testing.assert_close(found[begin : begin + len(wanted)], wanted, atol=1e-5, rtol=0)


def test_packed_texts_equal_texts_alone(model: BertModel, texts: list[list[Ids]]) -> None:
    rows = pack_texts(texts, 32)
    with torch.no_grad():
        found = run_trunk(model, rows)
        assert found.shape == (rows.token_ids.size, 32)
        assert_alike(found, rows, model, texts)


def test_wanted_cells_equal_those_of_all(model: BertModel, texts: list[list[Ids]]) -> None:
    rows = pack_texts(texts, 32)
    wanted = torch.tensor([5, 0, 40, 5, 33])
    with torch.no_grad():
        torch.testing.assert_close(run_trunk(model, rows, wanted), run_trunk(model, rows)[wanted])


def test_gradients_reach_every_weight_that_transformers_trains(
    model: BertModel, texts: list[list[Ids]]
) -> None:
    rows = pack_texts(texts, 32)
    cells = torch.from_numpy(rows.first_cells)
    run_trunk(model, rows, cells).square().sum().backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    sum(run_alone(model, text)[0].square().sum() for text in texts).backward()
    for name, weight in model.named_parameters():
        if weight.grad is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], weight.grad, atol=1e-3, rtol=1e-3, msg=name)
