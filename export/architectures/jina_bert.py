"""jina-embeddings-v2: a BERT whose attention weakens with distance, on either side (ALiBi).

Computes what jinaai/jina-bert-implementation and, with `qk_norm`, jinaai/jina-bert-v2-qk-post-norm
compute at inference, from tensors under their names. Its MLP is gated. A text lies in a row as it
does alone, so the distance of two cells of attention's scores is that of their tokens.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertOnlyMLMHead, BertPooler

from export.architectures.attention import NamedAttention, make_bias


class JinaBertConfig(BertConfig):
    """BERT's, with the kind of its gate, and whether queries and keys are normalised."""

    model_type = "jina_bert"

    feed_forward_type: str = "geglu"
    qk_norm: bool = False


def list_slopes(heads: int) -> list[float]:
    """How fast attention weakens in each head (Press et al. 2022).

    From 2^(-8/n) down in equal steps of the exponent, for a power of two; for other numbers of
    heads those of the power below, and every other of the next.
    """
    power = 1 << int(math.log2(heads))
    slopes = [2.0 ** (-8.0 * place / power) for place in range(1, power + 1)]
    if power < heads:
        slopes += list_slopes(2 * power)[::2][: heads - power]
    return slopes


def weaken(bias: torch.Tensor, heads: int) -> torch.Tensor:
    """The bias [B, 1, T, T] less each pair's distance times each head's slope, [B, heads, T, T]."""
    cells = torch.arange(bias.shape[-1], device=bias.device)
    distances = (cells[:, None] - cells[None, :]).abs()
    slopes = torch.tensor(list_slopes(heads), device=bias.device)
    return bias - slopes[None, :, None, None] * distances[None, None]


class _Embeddings(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, words: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.LayerNorm(words + self.token_type_embeddings(token_type_ids))
        return result


class JinaSelfAttention(NamedAttention):
    """BERT's, in the newer kind with norms over the queries and keys of all heads."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        if config.qk_norm:
            self.layer_norm_q = nn.LayerNorm(width, eps=config.layer_norm_eps)
            self.layer_norm_k = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        """The mixed values [B, T, H], before their projection."""
        query, key, value = self.query(states), self.key(states), self.value(states)
        if self.config.qk_norm:
            query, key = self.layer_norm_q(query), self.layer_norm_k(key)
        shape = (*states.shape[:2], self.heads, self.size)
        query, key, value = (side.view(shape).transpose(1, 2) for side in (query, key, value))
        return self.attend(query, key, value, bias, **rest)


class _MixingOutput(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, mixed: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.LayerNorm(self.dense(mixed) + states)
        return result


class _Mixing(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.self = JinaSelfAttention(config)
        self.output = _MixingOutput(config)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        result: torch.Tensor = self.output(self.self(states, bias, **rest), states)
        return result


class _GatedMLP(nn.Module):
    """The first half is activated and gates the second; the layer's norm is part of it."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.activate = _choose_activation(config)
        self.gated_layers = nn.Linear(width, 2 * inner, bias=False)
        self.wo = nn.Linear(inner, width)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        gate, value = self.gated_layers(states).chunk(2, dim=-1)
        result: torch.Tensor = self.layernorm(self.wo(self.activate(gate) * value) + states)
        return result


class _PostNormMLP(nn.Module):
    """The second half is activated and gates the first."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.activate = _choose_activation(config)
        self.up_gated_layer = nn.Linear(width, 2 * inner, bias=False)
        self.down_layer = nn.Linear(inner, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        value, gate = self.up_gated_layer(states).chunk(2, dim=-1)
        result: torch.Tensor = self.down_layer(value * self.activate(gate))
        return result


def _choose_activation(config: JinaBertConfig) -> Any:
    return nn.functional.relu if config.feed_forward_type == "reglu" else nn.functional.gelu


class _Layer(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.attention = _Mixing(config)
        self.mlp = _GatedMLP(config)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        result: torch.Tensor = self.mlp(self.attention(states, bias, **rest))
        return result


class _PostNormLayer(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.attention = _Mixing(config)
        self.mlp = _PostNormMLP(config)
        self.layer_norm_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer_norm_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        states = self.layer_norm_1(self.attention(states, bias, **rest) + states)
        result: torch.Tensor = self.layer_norm_2(self.mlp(states) + states)
        return result


class _Encoder(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        kind = _PostNormLayer if config.qk_norm else _Layer
        self.layer = nn.ModuleList(kind(config) for _ in range(config.num_hidden_layers))

    def forward(self, states: torch.Tensor, bias: torch.Tensor, **rest: Any) -> torch.Tensor:
        for layer in self.layer:
            states = layer(states, bias, **rest)
        return states


class JinaBertPreTrainedModel(PreTrainedModel):
    """What its classes have in common."""

    config_class = JinaBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True
    _supports_attention_backend = True
    # Buffers that follow from the config.
    _keys_to_ignore_on_load_unexpected = (r"position_ids$", r"token_type_ids$", r"encoder\.alibi$")


class JinaBertModel(JinaBertPreTrainedModel):
    """The encoder, with BERT's pooler where a head reads it."""

    def __init__(self, config: JinaBertConfig, *, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embeddings of words."""
        return self.embeddings.word_embeddings

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **rest: Any,
    ) -> BaseModelOutputWithPooling:
        """The hidden states [B, T, H]; positions are not asked for."""
        words = (
            self.embeddings.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        )
        if token_type_ids is None:
            token_type_ids = torch.zeros(words.shape[:2], dtype=torch.long, device=words.device)
        states = self.embeddings(words, token_type_ids)
        bias = weaken(make_bias(attention_mask, states), self.config.num_attention_heads)
        shown = {key: rest[key] for key in ("row_index", "flat_index") if key in rest}
        states = self.encoder(states, bias, **shown)
        pooled = self.pooler(states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)


class JinaBertForMaskedLM(JinaBertPreTrainedModel):
    """The encoder with BERT's masked-LM head."""

    _tied_weights_keys = {  # noqa: RUF012
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config)
        self.bert = JinaBertModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """What turns states into words."""
        decoder: nn.Linear = self.cls.predictions.decoder
        return decoder

    def forward(self, input_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """The logits of every token, [B, T, V]."""
        states = self.bert(input_ids=input_ids, **rest).last_hidden_state
        return MaskedLMOutput(logits=self.cls(states), hidden_states=(states,))


class JinaBertForSequenceClassification(JinaBertPreTrainedModel):
    """The encoder with BERT's classifier, as jina's rerankers have it."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config)
        self.bert = JinaBertModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        """The logits of each text, [B, labels]."""
        output = self.bert(input_ids=input_ids, **rest)
        logits = self.classifier(output.pooler_output)
        return SequenceClassifierOutput(logits=logits, hidden_states=(output.last_hidden_state,))
