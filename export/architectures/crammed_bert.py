"""crammedBERT: the BERT that was trained in one day on one GPU (Geiping and Goldstein 2022).

Computes what JonasGeiping/cramming's crammed_bert.py computes at inference, from tensors under its
names. Layers normalise before they compute, values are gated by GELU, positions are a sinusoid
times one learnt number. Which variants of it are computed: export/reading/crammed.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput

from export.architectures.attention import NamedAttention, make_bias


class CrammedBertConfig(PretrainedConfig):
    """Sizes under the names that transformers' classes give them.

    `classifier_pooling` is cls, mean or max; `pooler_size` is what its pooled rows are turned into.
    """

    model_type = "crammedBERT"

    vocab_size: int = 32768
    hidden_size: int = 768
    num_hidden_layers: int = 16
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 128
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    head_transform: bool = False
    classifier_pooling: str = "cls"
    pooler_size: int = 1024
    tie_word_embeddings: bool = True


class _Positions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale_factor = nn.Parameter(torch.ones(1))

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(0, self.width, 2, dtype=torch.float32)
        turns = position_ids[..., None] * torch.exp(steps * (-math.log(10000.0) / self.width))
        waves = torch.stack((turns.sin(), turns.cos()), dim=-1).flatten(-2)
        return waves[..., : self.width] * self.scale_factor


class _Embedding(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.pos_embedding = _Positions(config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, words: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(words + self.pos_embedding(position_ids))
        return result


class CrammedSelfAttention(NamedAttention):
    """Queries, keys and values of a head stand side by side in one product."""

    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__(config)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        """The mixed values [B, T, H], before their projection."""
        joined = self.query_key_value(states)
        joined = joined.view(*states.shape[:2], self.heads, 3 * self.size).transpose(1, 2)
        query, key, value = joined.split(self.size, dim=-1)
        return self.attend(query, key, value, bias, **rest)


class _Mixing(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.self_attention = CrammedSelfAttention(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        result: torch.Tensor = self.dense(self.self_attention(states, bias, **rest))
        return result


class _FeedForward(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.dense_in = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.dense_out = nn.Linear(config.intermediate_size // 2, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        value, gate = self.dense_in(states).chunk(2, dim=-1)
        result: torch.Tensor = self.dense_out(nn.functional.gelu(gate) * value)
        return result


class _Layer(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = _Mixing(config)
        self.ffn = _FeedForward(config)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        states = states + self.attn(self.norm1(states), bias, **rest)
        result: torch.Tensor = states + self.ffn(self.norm2(states))
        return result


class CrammedBertPreTrainedModel(PreTrainedModel):
    """What its classes have in common."""

    config_class = CrammedBertConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True
    # The square root of a head's size, which follows from the config.
    _keys_to_ignore_on_load_unexpected = (r"self_attention\.norm_factor$",)


class CrammedBertModel(CrammedBertPreTrainedModel):
    """The encoder."""

    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__(config)
        self.embedding = _Embedding(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of words."""
        return self.embedding.word_embedding

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **rest: Any,
    ) -> BaseModelOutput:
        """The hidden states [B, T, H]."""
        words = self.embedding.word_embedding(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = torch.arange(words.shape[1], device=words.device)[None]
        states = self.embedding(words, position_ids)
        bias = make_bias(attention_mask, states)
        shown = {key: rest[key] for key in ("row_index", "flat_index") if key in rest}
        for layer in self.layers:
            states = layer(states, bias, **shown)
        return BaseModelOutput(last_hidden_state=self.final_norm(states))


class _PredictionHead(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(nn.functional.gelu(self.dense(states)))
        return result


class CrammedBertForPreTraining(CrammedBertPreTrainedModel):
    """The encoder with its masked-LM head: its words once more, for most without a transform."""

    _tied_weights_keys = {"decoder.weight": "encoder.embedding.word_embedding.weight"}  # noqa: RUF012

    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__(config)
        self.encoder = CrammedBertModel(config)
        self.prediction_head = _PredictionHead(config) if config.head_transform else nn.Identity()
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """What turns states into words."""
        return self.decoder

    def forward(self, input_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """The logits of every token, [B, T, V]."""
        states = self.encoder(input_ids=input_ids, **rest).last_hidden_state
        logits = self.decoder(self.prediction_head(states))
        return BertForPreTrainingOutput(prediction_logits=logits, hidden_states=(states,))


class _Pooler(nn.Module):
    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__()
        self.pooling = config.classifier_pooling
        self.dense = nn.Linear(config.hidden_size, config.pooler_size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        match self.pooling:
            case "mean":
                pooled = states.mean(dim=1)
            case "max":
                pooled = states.amax(dim=1)
            case _:
                pooled = states[:, 0]
        result: torch.Tensor = self.dense(pooled).tanh()
        return result


class CrammedBertForSequenceClassification(CrammedBertPreTrainedModel):
    """The encoder with a classifier of a text's pooled rows, padding included."""

    def __init__(self, config: CrammedBertConfig) -> None:
        super().__init__(config)
        self.encoder = CrammedBertModel(config)
        self.pooler = _Pooler(config)
        self.head = nn.Linear(config.pooler_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """The logits of each text, [B, labels]."""
        states = self.encoder(input_ids=input_ids, **rest).last_hidden_state
        logits = self.head(self.pooler(states))
        return SequenceClassifierOutput(logits=logits, hidden_states=(states,))
