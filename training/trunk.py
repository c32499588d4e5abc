"""The forward pass of a BertModel over packed rows.

The same function of the same weights as transformers' BertModel (a test compares them), written
out because texts share rows, and because what needs only some of the last layer's cells (masked
tokens, [CLS]) need not pay for all: a sixth of a four-layer trunk's work in pre-training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

from training.rows import Rows

_APART = -1e4  # added to the score of a token of another text; exp of it is 0


def run_trunk(model: BertModel, rows: Rows, wanted: Tensor | None = None) -> Tensor:
    """Hidden states [N,H] of the wanted cells, or of all of them [R*W,H]."""
    device = model.device
    hidden = model.embeddings(
        input_ids=torch.from_numpy(rows.token_ids).to(device),
        token_type_ids=torch.from_numpy(rows.token_type_ids).to(device),
        position_ids=torch.from_numpy(rows.position_ids).to(device),
    )
    bias = _make_bias(torch.from_numpy(rows.text_ids).to(device))
    *layers, last = model.encoder.layer
    for layer in layers:
        hidden = _finish(layer, hidden, _attend(layer, hidden, bias))
    attended = _attend(last, hidden, bias).flatten(0, 1)
    hidden = hidden.flatten(0, 1)
    if wanted is not None:
        attended, hidden = attended[wanted], hidden[wanted]
    return _finish(last, hidden, attended)


def _make_bias(text_ids: Tensor) -> Tensor:
    """[R,1,W,W]: 0 between cells of one text, very small between others."""
    apart = (text_ids[:, :, None] != text_ids[:, None, :])[:, None]
    return torch.zeros(apart.shape, device=text_ids.device).masked_fill_(apart, _APART)


def _attend(layer: BertLayer, hidden: Tensor, bias: Tensor) -> Tensor:
    attention = layer.attention.self
    parts = attention.query, attention.key, attention.value
    weight = torch.cat([part.weight for part in parts])
    offset = torch.cat([part.bias for part in parts])
    rows, width, _ = hidden.shape
    shape = (rows, width, 3, attention.num_attention_heads, attention.attention_head_size)
    query, key, value = F.linear(hidden, weight, offset).view(shape).permute(2, 0, 3, 1, 4)
    dropped = attention.dropout.p if layer.training else 0.0
    mask = bias.to(query.dtype)
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropped)
    return context.transpose(1, 2).reshape(hidden.shape)


def _finish(layer: BertLayer, hidden: Tensor, attended: Tensor) -> Tensor:
    hidden = layer.attention.output(attended, hidden)
    finished: Tensor = layer.output(layer.intermediate(hidden), hidden)
    return finished
