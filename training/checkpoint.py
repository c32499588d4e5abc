"""Writes a model as a Hugging Face directory, whole or not at all."""

import json
import shutil
from pathlib import Path

import transformers
from safetensors import SafetensorError
from transformers import BertForPreTraining, BertTokenizerFast

from training.errors import StorageFull
from training.finetuning.heads import ClassifyHead, TagHead


def save_checkpoint(
    model: BertForPreTraining,
    vocabulary: Path,
    directory: Path,
    heads: dict[str, ClassifyHead | TagHead] | None = None,
) -> None:
    """Config, tokenizer and safetensors; with heads also heads/<name>/ and the pooling.

    The pooling is told as sentence-transformers tells it, so that embeddings need no guess. What
    has heads is finished and is written in half precision. Raises StorageFull.
    """
    transformers.utils.logging.disable_progress_bar()
    staging = directory.with_name(directory.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    limit = model.config.max_position_embeddings
    try:
        if heads:
            model.config.head_names = list(heads)
            model = model.half()
        model.save_pretrained(staging)
        tokenizer = BertTokenizerFast(tokenizer_file=str(vocabulary), model_max_length=limit)
        tokenizer.save_pretrained(staging)
        if heads:
            _write_pooling(staging, model.config.hidden_size, limit)
            for name, head in heads.items():
                head.save(staging / "heads" / name, model.config)
    except (OSError, SafetensorError) as failure:
        shutil.rmtree(staging, ignore_errors=True)
        raise StorageFull(f"{directory} could not be written ({failure}). Make room.") from failure
    shutil.rmtree(directory, ignore_errors=True)
    staging.replace(directory)


def _write_pooling(directory: Path, size: int, limit: int) -> None:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
