"""What stands, during an export, for the parts of a model that cannot see a stream as it is.

Most models see other tokens through AttentionInterface alone. A few look at them elsewhere too:
each such module has a stand-in here, found by the module's class, that computes the same from the
stream and the plan of its rows. They run the module's own layers; what they change is only where
the neighbours of a token are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

Attend = Callable[..., tuple[torch.Tensor, None]]


@dataclass(slots=True)
class Plan:
    """The plan of the rows that is traced, where stand-ins find it; see models/text/packing.py.

    `bias` [R, 1, W, W] is what attention adds to its scores.
    """

    row_index: torch.Tensor
    flat_index: torch.Tensor
    bias: torch.Tensor
    row_sequence: torch.Tensor

    @property
    def text(self) -> torch.Tensor:
        """Whose each token is, [T]; traced only where a stand-in asks for it."""
        return self.row_sequence.reshape(-1).index_select(0, self.flat_index)


class Stage:
    """Holds the plan for the stand-ins while a forward runs."""

    def __init__(self, attend: Attend) -> None:
        self.attend = attend
        self._plans: list[Plan] = []

    @property
    def plan(self) -> Plan:
        """The plan of the forward that is running."""
        return self._plans[-1]

    @contextmanager
    def show(self, plan: Plan) -> Iterator[None]:
        """Let stand-ins see the plan."""
        self._plans.append(plan)
        try:
            yield
        finally:
            self._plans.pop()


class NeighbourEmbeddings(torch.nn.Module):
    """MobileBERT's embeddings, in which a token is joined by the ones before and after it.

    Beyond the ends of its own text are zeros, as where it stands alone (Sun et al. 2020).
    """

    def __init__(self, original: Any, stage: Stage) -> None:
        super().__init__()
        self.original = original
        self.stage = stage

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        inputs_embeds: None = None,
    ) -> torch.Tensor:
        """Embeddings [1, T, H] of a stream [1, T]."""
        own, text = self.original, self.stage.plan.text
        words = own.word_embeddings(input_ids)
        if own.trigram_input:
            same = (text[1:] == text[:-1])[None, :, None].to(words.dtype)
            after = torch.nn.functional.pad(words[:, 1:] * same, (0, 0, 0, 1))
            before = torch.nn.functional.pad(words[:, :-1] * same, (0, 0, 1, 0))
            words = torch.cat([after, words, before], dim=2)
        if own.trigram_input or own.embedding_size != own.hidden_size:
            words = own.embedding_transformation(words)
        places = own.position_embeddings(position_ids)
        result: torch.Tensor = own.LayerNorm(
            words + places + own.token_type_embeddings(token_type_ids)
        )
        return result


class BiasedEncoder(torch.nn.Module):
    """MPNet's encoder, whose attention adds a bias that follows from the distance of two tokens.

    A text lies in a row as it does alone, so the distance of two cells is that of their tokens.
    """

    def __init__(self, original: Any, stage: Stage) -> None:
        super().__init__()
        self.original = original
        self.stage = stage
        self.distances = Distances(
            original.config.max_position_embeddings,
            # It counts from query to key, and always asks for as many buckets as by default.
            lambda distance: original.relative_position_bucket(-distance),
        )

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> Any:
        """The last hidden states [1, T, H] of a stream."""
        own, plan = self.original, self.stage.plan
        buckets = self.distances(plan.row_index.shape[1])
        bias = plan.bias + own.relative_attention_bias(buckets).permute(2, 0, 1)[None]
        for layer in own.layer:
            hidden_states = layer(hidden_states, bias)[0]
        return _Output(hidden_states)


class BiasedAttention(torch.nn.Module):
    """MPNet's attention, which does not ask AttentionInterface, through the function that does."""

    def __init__(self, original: Any, stage: Stage) -> None:
        super().__init__()
        self.original = original
        self.stage = stage

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor]:
        """The attention's output [1, T, H] of a stream; the bias comes as `attention_mask`."""
        own, plan = self.original, self.stage.plan
        size = own.attention_head_size
        shape = (*hidden_states.shape[:-1], -1, size)
        query, key, value = (
            side(hidden_states).view(shape).transpose(1, 2) for side in (own.q, own.k, own.v)
        )
        mixed, _weights = self.stage.attend(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=size**-0.5,
            row_index=plan.row_index,
            flat_index=plan.flat_index,
        )
        return (own.o(mixed.reshape(*hidden_states.shape[:-1], own.all_head_size)),)


class OneLanguage(torch.nn.Module):
    """X-MOD's output layer, of whose adapters a checkpoint is loaded with one alone.

    It looks for the texts of each language, which are all of them here.
    """

    def __init__(self, original: Any, _: Stage) -> None:
        super().__init__()
        self.original = original

    @property
    def adapter_modules(self) -> torch.nn.ModuleDict:
        """The adapters by language, whose names the model asks for."""
        adapters: torch.nn.ModuleDict = self.original.adapter_modules
        return adapters

    @property
    def LayerNorm(self) -> torch.nn.Module:  # noqa: N802 - the original's name
        """The norm that the layer around it applies."""
        norm: torch.nn.Module = self.original.LayerNorm
        return norm

    def forward(
        self, hidden_states: torch.Tensor, input_tensor: torch.Tensor, _: torch.Tensor
    ) -> torch.Tensor:
        """The layer's output [1, T, H] of a stream."""
        own = self.original
        before = given = own.dense(hidden_states) + input_tensor
        if own.adapter_layer_norm is not None:
            given = own.adapter_layer_norm(given)
        elif own.adapter_reuse_layer_norm:
            given = own.LayerNorm(given)
        (adapter,) = own.adapter_modules.values()
        result: torch.Tensor = adapter(given) + (given if own.ln_before_adapter else before)
        return result


class Distances(torch.nn.Module):
    """Buckets of the distances between the cells of a row, looked up in a table.

    The table is the original's own, computed once: its logarithms fall on whole numbers at some
    distances, where another runtime's rounding would choose another bucket.
    """

    def __init__(self, longest: int, choose_bucket: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.longest = longest
        buckets = choose_bucket(torch.arange(-longest, longest + 1))
        self.register_buffer("table", buckets.to(torch.long), persistent=False)

    def forward(self, width: int) -> torch.Tensor:
        """The bucket [width, width] of each query's cell less each key's."""
        cells = torch.arange(width)
        return self.get_buffer("table")[cells[:, None] - cells[None, :] + self.longest]


@dataclass(slots=True)
class _Output:
    """What an encoder returns, as far as a trunk reads it."""

    last_hidden_state: torch.Tensor
    hidden_states: None = None
    attentions: None = None

    def __getitem__(self, _: int) -> torch.Tensor:
        return self.last_hidden_state


_STAND_INS: dict[str, Callable[[Any, Stage], torch.nn.Module]] = {
    "MobileBertEmbeddings": NeighbourEmbeddings,
    "MPNetEncoder": BiasedEncoder,
    "MPNetSelfAttention": BiasedAttention,
    "XmodOutput": OneLanguage,
}


@contextmanager
def stand_in(model: PreTrainedModel, stage: Stage) -> Iterator[None]:
    """Put the stand-ins into the model, and its own modules back at the end."""
    replaced = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if type(child).__name__ in _STAND_INS
    ]
    for parent, name, child in replaced:
        setattr(parent, name, _STAND_INS[type(child).__name__](child, stage))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


@contextmanager
def use_tables(model: PreTrainedModel) -> Iterator[None]:
    """Let DeBERTa's encoder look its buckets of distances up, also where it runs as it is."""
    changed = [module for module in model.modules() if type(module).__name__ == "DebertaV2Encoder"]
    for encoder in changed:
        encoder.get_rel_pos = _find_distances(encoder, model.config.max_position_embeddings)
    try:
        yield
    finally:
        for encoder in changed:
            del encoder.get_rel_pos


def _find_distances(encoder: Any, longest: int) -> Callable[..., torch.Tensor | None]:
    if not encoder.relative_attention:
        return lambda *_, **__: None
    buckets, known = encoder.position_buckets, encoder.max_relative_positions

    def choose_bucket(distance: torch.Tensor) -> torch.Tensor:
        if buckets <= 0:
            return distance
        bucket: torch.Tensor = make_log_bucket_position(distance, buckets, known)
        return bucket

    distances = Distances(longest, choose_bucket)
    return lambda hidden, *_, **__: distances(hidden.shape[1])[None]
