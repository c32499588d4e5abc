"""What the manifest of a new bundle says: of its heads, its files, and where it comes from.

Owns no format (models/bundle/manifest.py does) and no figures of a proof.
"""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import UnsupportedModel
from export.reading.checkpoint import Checkpoint
from export.reading.heads import SourceHead
from export.reading.sentences.settings import Sentences, choose_pooling
from export.writing.request import ExportRequest
from models.bundle.bundle import MANIFEST, hash_file
from models.bundle.manifest import (
    FORMAT_VERSION,
    FileEntry,
    HeadEntry,
    LateInteraction,
    Manifest,
    Source,
    SpecialToken,
    TruncationSide,
    split_poolings,
)

_SHOWN = 10
_TOOLS = ("torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Contents:
    """What was made: the heads, the trunk's fused nodes, and what each graph's weights take."""

    heads: Sequence[HeadEntry]
    fused_attention: int
    loaded_bytes: Mapping[str, int]


def describe_heads(
    request: ExportRequest, checkpoint: Checkpoint, heads: Sequence[SourceHead]
) -> tuple[list[HeadEntry], list[str]]:
    """The entries of the heads, and notes on what of the request or checkpoint is not unasked."""
    _check_entailment(request, heads)
    entries: list[HeadEntry] = []
    notes: list[str] = []
    for head in heads:
        if head.weights:
            entries.append(_describe_head(head, checkpoint, request))
            notes += _describe_settings(entries[-1])
            continue
        entry = _describe_vectors(head, checkpoint, request)
        entries.append(entry)
        if request.pooling and request.pooling != entry.pooling:
            notes.append(
                f"--pooling {request.pooling} was not used: the checkpoint says {entry.pooling}; "
                + (
                    "requests may still ask for another"
                    if checkpoint.read_projection() is None
                    else "its modules after pooling know no other"
                )
            )
        if entry.pooling_source == "default":
            notes.append(
                f"{entry.pooling} pooling is a default that its checkpoint does not say: "
                "/v1/embeddings answers with it only where a request asks for it by name, "
                f'"model": "{request.bundle_name}"; export it with --pooling where that is meant'
            )
        notes += _describe_settings(entry)
        normalizes = any(module.kind == "Normalize" for module in checkpoint.sentences.modules)
        if normalizes and entry.default_dimensions:
            notes.append(
                "encode normalises vectors before it cuts them, so its are shorter than 1: ask for "
                "the same with normalize false"
            )
    notes += _list_unused(request, checkpoint, entries)
    notes += _compare_sizes(checkpoint)
    return entries, list(dict.fromkeys(notes))


def _compare_sizes(checkpoint: Checkpoint) -> list[str]:
    """A note where most of the model's vectors of words are of no word that its tokenizer knows."""
    known = checkpoint.tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=True)
    size = int(checkpoint.config.vocab_size)
    if 2 * known >= size:
        return []
    return [
        f"the tokenizer knows {known} tokens, and the model has {size}: most words become unknown "
        "ones; see that the files of the tokenizer are the model's own"
    ]


def _check_entailment(request: ExportRequest, heads: Sequence[SourceHead]) -> None:
    named = request.entailment
    labels = [label for head in heads if head.task == "classify" for label in head.labels or ()]
    if named is not None and named not in labels:
        known = f"among {', '.join(labels[:_SHOWN])}" if labels else "and no classifier, either"
        raise UnsupportedModel(
            f"{request.source} has no label {named!r}, {known}; name one of a classifier's labels "
            "with --entailment"
        )


def _list_unused(
    request: ExportRequest, checkpoint: Checkpoint, entries: Sequence[HeadEntry]
) -> list[str]:
    """Notes on what of the request or checkpoint no head answers by."""
    notes = []
    dense = any(entry.task == "embed" and entry.representation is None for entry in entries)
    if request.pooling not in (None, "splade") and not dense:
        notes.append(
            f"--pooling {request.pooling} was not used: the bundle pools no vectors, and answers "
            + ", ".join(" ".join(filter(None, (entry.task, entry.name))) for entry in entries)
        )
    given = checkpoint.sentences.dimensions
    if dense and given is not None and given > checkpoint.vector_size:
        size = checkpoint.vector_size
        notes.append(
            f"truncate_dim {given} is above the {size} dimensions there are: all are given"
        )
    return notes


def _cap(length: int | None, most: int) -> int | None:
    return None if length is None else min(length, most)


def _limit(given: int | None, size: int) -> int | None:
    """How many are given unasked, where that is not all of them in any case."""
    return given if given is not None and given <= size else None


def _describe_vectors(
    head: SourceHead, checkpoint: Checkpoint, request: ExportRequest
) -> HeadEntry:
    said = checkpoint.sentences
    # A SPLADE has no head of the kind.
    pooling, origin = choose_pooling(said, request.pooling if request.pooling != "splade" else None)
    poolings = len(split_poolings(pooling))
    return HeadEntry(
        task=head.task,
        pooling=pooling,
        pooling_source=origin,
        dimensions=poolings * checkpoint.config.hidden_size if poolings > 1 else None,
        default_dimensions=_limit(said.dimensions, checkpoint.vector_size),
        similarity=said.similarity,
        prompts=dict(said.prompts) or None,
        default_prompt=said.default_prompt,
        include_prompt=said.include_prompt,
    )


def _describe_settings(entry: HeadEntry) -> list[str]:
    notes = []
    if entry.prompts:
        default = f"; {entry.default_prompt!r} goes unasked" if entry.default_prompt else ""
        notes.append(f"prompts by name: {', '.join(entry.prompts)}{default}")
    if entry.default_dimensions and entry.representation == "sparse":
        notes.append(f"the {entry.default_dimensions} largest weights are given unasked")
    elif entry.default_dimensions:
        notes.append(f"vectors are cut to {entry.default_dimensions} dimensions unasked")
    if entry.similarity in ("dot", "euclidean", "manhattan"):
        notes.append(
            f"made to be compared by {entry.similarity}: ask for vectors with normalize false"
        )
    return notes


def _describe_head(head: SourceHead, checkpoint: Checkpoint, request: ExportRequest) -> HeadEntry:
    said = checkpoint.sentences if head.prompted else Sentences()
    prompts = head.list_prompts(said)
    splade = checkpoint.sentences.splade if head.representation == "sparse" else None
    return HeadEntry(
        task=head.task,
        name=head.name,
        file=head.file,
        labels=head.labels,
        problem_type=head.problem_type,
        function=head.function,
        pooling=head.pooling,
        prompts=dict(prompts) or None,
        default_prompt=said.default_prompt,
        include_prompt=head.include_prompt,
        representation=head.representation,
        activation=splade.activation if splade else None,
        aggregation=splade.aggregation if splade else None,
        dimensions=_count_dimensions(head, checkpoint),
        default_dimensions=_limit(said.weights, checkpoint.config.vocab_size) if splade else None,
        late=_describe_late(head, checkpoint),
        entailment=request.entailment if request.entailment in (head.labels or ()) else None,
    )


def _count_dimensions(head: SourceHead, checkpoint: Checkpoint) -> int | None:
    if head.late is not None:
        return head.late.dimensions
    return checkpoint.config.vocab_size if head.representation == "sparse" else None


def _describe_late(head: SourceHead, checkpoint: Checkpoint) -> LateInteraction | None:
    late, tokenizer = head.late, checkpoint.tokenizer
    if late is None:
        return None
    expansion, filling = late.expansion, None
    if expansion is not None:
        filling = tokenizer.convert_tokens_to_ids(expansion.token or tokenizer.mask_token)
    fixed = expansion is not None and expansion.strategy == "fixed"
    most = checkpoint.max_tokens
    return LateInteraction(
        query_tokens=expansion.length if expansion and fixed else _cap(late.query_tokens, most),
        document_tokens=_cap(late.document_tokens, most),
        expansion_token=filling,
        expanded_tokens=expansion.length if expansion else 0,
        attend=expansion.attend if expansion else True,
        skipped=late.list_skipped(tokenizer),
        skipped_for=late.skipped_for,
    )


def describe_reading(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the manifest says of how texts are read, and of the sizes of what reads them."""
    return {
        "max_tokens": checkpoint.max_tokens,
        "truncation_side": checkpoint.tokenizer.truncation_side,
        "segments": checkpoint.segments,
        "position_start": checkpoint.position_start,
        "special_tokens": _list_special_tokens(checkpoint.tokenizer),
        "vocabulary_size": checkpoint.config.vocab_size,
        "family": checkpoint.family.name,
        "hidden_size": checkpoint.config.hidden_size,
        "layers": checkpoint.config.num_hidden_layers,
    }


def describe_bundle(
    folder: Path, request: ExportRequest, checkpoint: Checkpoint, contents: Contents
) -> Manifest:
    """The manifest of what lies in the folder, before anything is proven."""
    side: TruncationSide = checkpoint.tokenizer.truncation_side
    return Manifest(
        format_version=max(
            FORMAT_VERSION if side == "left" else 1,
            *(entry.format_version for entry in contents.heads),
        ),
        name=request.bundle_name,
        layout=checkpoint.family.layout,
        **describe_reading(checkpoint),
        tasks=tuple(dict.fromkeys(entry.task for entry in contents.heads)),
        heads=tuple(contents.heads),
        precisions=request.precisions,
        fused_attention=contents.fused_attention,
        files=_list_files(folder, contents.loaded_bytes),
        source=Source(
            name=checkpoint.name.encode("utf-8", "replace").decode(),
            revision=checkpoint.revision,
            architecture=checkpoint.architecture,
            config_sha256=checkpoint.config_sha256,
        ),
        tools={name: importlib.metadata.version(name).partition("+")[0] for name in _TOOLS},
        parity=(),
    )


def write_json(file: Path, content: Any) -> None:
    """Write it as every JSON file of a bundle is written."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _list_special_tokens(tokenizer: Any) -> dict[str, SpecialToken]:
    return {
        kind: SpecialToken(token=token, id=tokenizer.convert_tokens_to_ids(token))
        for kind in ("pad", "cls", "sep", "mask", "unk")
        if (token := getattr(tokenizer, f"{kind}_token", None)) is not None
    }


def _list_files(folder: Path, loaded_bytes: Mapping[str, int]) -> dict[str, FileEntry]:
    return {
        file.name: FileEntry(
            sha256=hash_file(file),
            bytes=file.stat().st_size,
            loaded_bytes=loaded_bytes.get(file.name),
        )
        for file in sorted(folder.iterdir())
        if file.name != MANIFEST
    }
