"""A checkpoint as its users have it: found, read and loaded with transformers' own classes.

Remote code never runs; weights come from safetensors, or from pytorch_model.bin read with torch's
`weights_only`.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

from export.architectures.classes import find_class, is_own, name_base
from export.errors import SourceError, UnsupportedModel
from export.reading.configuration import load_config
from export.reading.files import find_source, read_architecture
from export.reading.heads import (
    SourceHead,
    apply_activation,
    list_heads,
    make_sparse_head,
    make_tokens_head,
    make_trunk_head,
)
from export.reading.kinds import refuse_adapter, refuse_other_kinds
from export.reading.labels import check_labels
from export.reading.model import load_model, shorten
from export.reading.named_heads import load_named_heads
from export.reading.sentences.colbert import STANFORD, Late, read_colbert
from export.reading.sentences.modules import find_encoder
from export.reading.sentences.pooling import Splade
from export.reading.sentences.projection import read_projection
from export.reading.sentences.setfit import read_setfit
from export.reading.sentences.settings import Sentences, read_sentences
from export.reading.tokenizer import gives_segments, load_tokenizer
from export.reading.variants import Declared, read_declared
from export.reading.weights import Weights, find_weights
from models.bundle.manifest import split_poolings
from models.families import Family

# What an architecture is named by that was trained to answer otherwise than by a vector.
# What a ColBERT of Stanford's has beside its encoder.
_PROJECTION = ["linear.weight"]
_OTHER_ANSWERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@dataclass(slots=True)
class Checkpoint:
    """A loaded checkpoint. `trunk` is its encoder, `heads` what stands on it.

    `path` is its folder, `encoder` the one in it that holds config, weights and tokenizer, most
    often the same. `sentences` is what sentence-transformers' files say of its answers. `longest`
    is the longest text that its class computes as it was trained, where config.json says more.
    """

    path: Path
    encoder: Path
    name: str
    revision: str | None
    family: Family
    architecture: str
    config: PretrainedConfig
    config_sha256: str
    tokenizer: Any
    trunk: PreTrainedModel
    heads: list[SourceHead]
    sentences: Sentences
    late: Late | None = None
    longest: int | None = None
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Let go of the weights; what the checkpoint says of itself stays."""
        for model in (self.trunk, *(head.model for head in self.heads)):
            model.to("meta")

    @property
    def position_start(self) -> int:
        """The position id of a text's first token."""
        return int(self.config.pad_token_id) + 1 if self.family.positions_follow_padding else 0

    @property
    def segments(self) -> bool:
        """Whether the model tells the two texts of a pair apart by segment ids."""
        kinds = getattr(self.config, "type_vocab_size", 0) or 0
        return kinds > 1 and gives_segments(self.tokenizer)

    @property
    def max_tokens(self) -> int:
        """The longest text the checkpoint was made for, special tokens included."""
        limits = [self.longest, self._said_length]
        return min([self.positions, *(limit for limit in limits if limit is not None)])

    @property
    def positions(self) -> int:
        """The longest text that its position embeddings are for."""
        return int(self.config.max_position_embeddings) - self.position_start

    @property
    def _said_length(self) -> int | None:
        """The longest text by sentence-transformers' files, or else by the tokenizer's."""
        if self.sentences.max_tokens is not None:
            return self.sentences.max_tokens
        longest = self.tokenizer.model_max_length
        if not isinstance(longest, int | float):
            raise SourceError(
                f"{self.encoder / 'tokenizer_config.json'} has model_max_length {longest!r}, "
                "which is not a length"
            )
        # The tokenizer says 1e30 where it knows of no limit.
        return int(longest) if 0 < longest < 1e9 else None

    @property
    def all_heads(self) -> list[SourceHead]:
        """All that answers: the trunk by itself, and the heads that stand on it.

        Of a SPLADE or ColBERT no dense vectors: nothing says how they would be pooled.
        """
        if self.late is not None:
            return [make_tokens_head(self.trunk, self.late), *self.heads]
        if self.sentences.splade is None:
            return [make_trunk_head(self.trunk), *self.heads]
        return [*make_sparse_head(self.heads, self.sentences.splade), *self.heads]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks its weights can answer."""
        return tuple(dict.fromkeys(head.task for head in self.all_heads))

    @property
    def default_tasks(self) -> tuple[str, ...]:
        """Those that are exported unasked.

        Without embed where the checkpoint was trained for another answer, and no file of it says
        how its vectors would be pooled.
        """
        trained = self.heads and self.architecture.endswith(_OTHER_ANSWERS)
        if not trained or self.sentences.pooling is not None:
            return self.tasks
        return tuple(dict.fromkeys(head.task for head in self.heads))

    @property
    def pooled_size(self) -> int:
        """The size of a vector as it is pooled."""
        poolings = split_poolings(self.sentences.pooling or "mean")
        return int(self.config.hidden_size) * len(poolings)

    @property
    def vector_size(self) -> int:
        """The size of a vector as it is answered, before any dimensions are left out."""
        projection = self.read_projection()
        if projection is None:
            return self.pooled_size
        return int(projection(torch.zeros(1, self.pooled_size)).shape[-1])

    def read_projection(self) -> torch.nn.Sequential | None:
        """What sentence-transformers computes on the pooled vector, if anything."""
        said = self.sentences
        if self.late is not None:
            return None
        return read_projection(said.modules, self.pooled_size, cut=said.dimensions is not None)


def load_checkpoint(
    source: str, revision: str | None = None, *, embeds: bool = False, splade: bool = False
) -> Checkpoint:
    """Find, check and load a checkpoint. Raises SourceError or UnsupportedModel.

    `embeds`: only its vectors are wanted, so the head that its config names may be missing.
    `splade`: it is one, also where no file of it says so.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path, name, found_revision = find_source(source, revision)
    refuse_other_kinds(path)
    encoder = find_encoder(path)
    refuse_adapter(encoder)
    declared = read_declared(encoder)
    family = declared.family
    sentences = read_sentences(path)
    weights = find_weights(encoder)
    architecture = _find_architecture(declared, weights)
    config = load_config(declared, weights)
    if architecture.endswith("Classification"):
        check_labels(declared.file)
    stanford = read_architecture(declared.content) == STANFORD
    late = read_colbert(path, sentences, stanford=stanford, width=config.hidden_size)
    tokenizer = load_tokenizer(encoder, config, lower_case=sentences.lower_case)
    if late is not None:
        late.register(tokenizer)
    embeds = embeds or sentences.pooling is not None
    model, unused, headless = load_model(encoder, config, architecture, weights, embeds=embeds)
    heads = [] if headless else list_heads(model, architecture, family)
    checkpoint = Checkpoint(
        path=path,
        encoder=encoder,
        name=name,
        revision=found_revision,
        family=family,
        architecture=architecture,
        config=config,
        config_sha256=hashlib.sha256(declared.file.read_bytes()).hexdigest(),
        tokenizer=tokenizer,
        trunk=model.base_model,
        heads=[apply_activation(head, sentences) for head in heads],
        sentences=sentences,
        late=late,
        longest=declared.longest,
        notes=[*declared.notes, *sentences.notes, *(late.notes if late else ())],
    )
    if weights.prefix:
        checkpoint.notes.append(f"every name of the weights begins with {weights.prefix}: left out")
    heads, notes = read_setfit(path, checkpoint.trunk, sentences)
    checkpoint.heads += [*heads, *load_named_heads(path, checkpoint.trunk, family)]
    checkpoint.notes += notes
    _refuse_twins(checkpoint)
    if splade:
        take_for_splade(checkpoint)
    _judge_weights(checkpoint, unused, headless=headless)
    _check_lengths(checkpoint)
    return checkpoint


def _judge_weights(checkpoint: Checkpoint, unused: Sequence[str], *, headless: bool) -> None:
    """Note what is not there, and what nothing computes with; raise where that must not be."""
    architecture = checkpoint.architecture
    if headless:
        checkpoint.notes.append(f"no weights of the head of {architecture}: embed only")
    elif not checkpoint.heads and not architecture.endswith("Model"):
        checkpoint.notes.append(f"the head of {architecture} is left out: no task here reads it")
    elif unused and is_own(checkpoint.family.name):
        raise UnsupportedModel(
            f"{checkpoint.encoder} holds weights that {architecture} does not compute with: "
            f"{shorten(unused)}"
        )
    elif unused and unused != _PROJECTION:
        checkpoint.notes.append(f"weights that {architecture} has no use for: {shorten(unused)}")


def _find_architecture(declared: Declared, weights: Weights) -> str:
    family = declared.family
    name = read_architecture(declared.content) or name_base(family.name)
    if name == STANFORD:
        return name_base(family.name)
    kind: Any = find_class(name)
    known = inspect.isclass(kind) and issubclass(kind, PreTrainedModel)
    if not known or getattr(kind.config_class, "model_type", None) != family.name:
        raise UnsupportedModel(
            f"{declared.file} names architecture {name!r}, which is not one of "
            f"transformers' {family.name} models; remote code is never run"
        )
    # Checkpoints of whole BERTs are often labelled with their masked-LM head alone.
    whole = {"cls.seq_relationship.weight", "bert.pooler.dense.weight"}
    if name == "BertForMaskedLM" and whole <= set(weights.tensors):
        return "BertForPreTraining"
    return name


def _refuse_twins(checkpoint: Checkpoint) -> None:
    """Raise UnsupportedModel where two heads of one task have no name to ask for them by."""
    unnamed = [head.task for head in checkpoint.heads if head.name is None]
    if unnamed.count("classify") > 1:
        raise UnsupportedModel(
            f"{checkpoint.path} has two classifiers, that of {checkpoint.architecture} in "
            "`architectures` of config.json and SetFit's in model_head.*; take one of them away"
        )


def take_for_splade(checkpoint: Checkpoint) -> None:
    """Give it sparse vectors as those of naver's SPLADE v2 and v3, whose files do not say so.

    Where they do, as they say. Raises UnsupportedModel for what is no SPLADE.
    """
    said = checkpoint.sentences
    if said.splade is not None:
        return
    if said.pooling is not None:
        raise UnsupportedModel(
            f"{checkpoint.path} says that its tokens are pooled by {said.pooling}, so it is no "
            "SPLADE; leave --pooling out"
        )
    if "fill-mask" not in {head.task for head in checkpoint.heads}:
        raise UnsupportedModel(
            f"{checkpoint.path} ({checkpoint.architecture}) has no masked-LM head, which a SPLADE "
            "is made of; leave --pooling splade out"
        )
    checkpoint.sentences = replace(said, splade=Splade("max", "relu"))


def _check_lengths(checkpoint: Checkpoint) -> None:
    """Note a length that is not reached; raise where no word or no filled query fits."""
    said, positions = checkpoint.sentences.max_tokens, checkpoint.positions
    if said is not None and said > positions:
        checkpoint.notes.append(
            f"sentence-transformers' files ask for texts of {said} tokens, and the model has "
            f"positions for {positions}: so many are read"
        )
    late, most = checkpoint.late, checkpoint.max_tokens
    for role in ("query", "document") if late is not None else ():
        length = getattr(late, f"{role}_tokens")
        if length is not None and length > most:
            checkpoint.notes.append(
                f"{role}_length {length} is above the {most} tokens that a text may have: so many "
                "are read"
            )
    if late is not None and late.expansion and late.expansion.length > most:
        raise UnsupportedModel(
            f"{checkpoint.path} fills queries up to {late.expansion.length} tokens (the length of "
            f"query_expansion), and takes texts of {most}"
        )
    special = checkpoint.tokenizer.num_special_tokens_to_add()
    if checkpoint.max_tokens <= special:
        raise SourceError(
            f"{checkpoint.path} takes texts of {checkpoint.max_tokens} tokens, {special} of them "
            "special ones; correct max_position_embeddings in config.json, model_max_length in "
            "tokenizer_config.json or max_seq_length in sentence_bert_config.json"
        )
