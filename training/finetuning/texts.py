"""Texts as the trunk takes them in fine-tuning: tokens with specials, cut, packed, pooled."""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertModel

from training.rows import Ids, pack_texts
from training.trunk import run_trunk

WIDTH = 128  # longer texts are cut to it; the labelled texts are sentences


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    """The tokens of each text as [CLS] text [SEP], at most WIDTH of them."""
    encodings = tokenizer.encode_batch_fast(list(texts))
    return [_cut(np.array(encoding.ids, np.int64)) for encoding in encodings]


def run_first(trunk: BertModel, texts: Sequence[Ids]) -> Tensor:
    """The hidden states [N, H] of each text's [CLS]."""
    rows = pack_texts([[text] for text in texts], WIDTH)
    return run_trunk(trunk, rows, torch.from_numpy(rows.first_cells).to(trunk.device))


def run_mean(trunk: BertModel, texts: Sequence[Ids]) -> Tensor:
    """The mean hidden states [N, H] of each text, special tokens included, of length 1."""
    rows = pack_texts([[text] for text in texts], WIDTH)
    shares = torch.zeros(len(texts), rows.token_ids.size)
    for text, (cell, length) in enumerate(zip(rows.first_cells, rows.lengths, strict=True)):
        shares[text, cell : cell + length] = 1 / length
    means = shares.to(trunk.device) @ run_trunk(trunk, rows).float()
    return torch.nn.functional.normalize(means, dim=-1)


def _cut(ids: Ids) -> Ids:
    return ids if len(ids) <= WIDTH else np.concatenate([ids[: WIDTH - 1], ids[-1:]])
