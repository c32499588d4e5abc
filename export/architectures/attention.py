"""What our own classes have in common: how they ask for attention, and what they add to its scores.

They ask transformers' AttentionInterface by name, as its own classes do, so that the exporter's
attention reaches them (export/graphs/trunk). transformers lets the name be set where a module has
no class of its own kind of attention, or where the call below is in it: so it stands here alone.
"""

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import eager_attention_forward


class NamedAttention(nn.Module):
    """Attention by the function that the config names."""

    is_causal = False

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.heads = config.num_attention_heads
        self.size = config.hidden_size // self.heads

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor,
        **rest: Any,
    ) -> torch.Tensor:
        """The mixed values [B, T, H], of queries, keys and values [B, heads, T, size].

        `bias` is added to the scores, [B, 1 or heads, T, T].
        """
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        mixed: torch.Tensor = attend(
            self, query, key, value, bias, dropout=0.0, scaling=self.size**-0.5, **rest
        )[0]
        return mixed.reshape(*mixed.shape[:2], -1)


def make_bias(mask: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of attention, [B, 1, T, T].

    `mask` is 1 for tokens and 0 for padding, [B, T], or such a bias already.
    """
    if mask is not None and mask.dim() == 4:
        return mask
    batch, tokens = states.shape[:2]
    if mask is None:
        return states.new_zeros(1, 1, tokens, tokens)
    padding = torch.where(mask > 0, 0.0, torch.finfo(states.dtype).min)
    return padding[:, None, None, :].expand(batch, 1, tokens, tokens)
