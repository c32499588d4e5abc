"""Texts go through the trunk as transformers and sentence-transformers take them."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from training.finetuning.texts import WIDTH, encode_texts, run_first, run_mean
from training.text.vocabulary import CLS, SEP

TEXTS = ("The ship", "a barn and a cow", "judge", "ship " * 300, "In the morning. " * 9, "The ship")


@pytest.fixture
def trunk(tiny_config: BertConfig) -> BertModel:
    """A trunk with random weights."""
    torch.manual_seed(4)
    return BertModel(tiny_config).eval()


def test_texts_are_framed_and_cut(tokenizer: Tokenizer) -> None:
    encoded = encode_texts(tokenizer, TEXTS)
    assert [len(ids) for ids in encoded[:3]] == [4, 7, 3]
    assert len(encoded[3]) == WIDTH
    assert all((ids[0], ids[-1]) == (CLS, SEP) for ids in encoded)
    assert np.count_nonzero(encoded[3] == SEP) == 1


def test_states_and_means_are_those_of_transformers(trunk: BertModel, tokenizer: Tokenizer) -> None:
    encoded = encode_texts(tokenizer, TEXTS)
    with torch.no_grad():
        firsts, means = run_first(trunk, encoded), run_mean(trunk, encoded)
        for place, ids in enumerate(encoded):
            hidden = trunk(torch.from_numpy(ids)[None]).last_hidden_state[0]
            mean = hidden.mean(0)
            torch.testing.assert_close(firsts[place], hidden[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(means[place], mean / mean.norm(), atol=1e-5, rtol=0)
