"""Keys of a checkpoint's files, with values of other kinds: honoured, or refused by name."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling

from export.reading.checkpoint import load_checkpoint
from export.writing.manifest import describe_heads
from export.writing.request import ExportRequest, choose_heads
from models.errors import ClozeError
from tests.helpers.checkpoints import make_checkpoint, write_json

VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, 1.5, True, ["x"], {"a": 1}, [[1]], 10**30)
CONFIG, SETTINGS = "config_sentence_transformers.json", "sentence_bert_config.json"
TOKENS = "token_embeddings"
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "setfit": {
        CONFIG: ("prompts", "default_prompt_name", "truncate_dim", "activation_fn", "model_type"),
        SETTINGS: ("max_seq_length", "transformer_task", "modality_config", "processing_kwargs"),
        "1_Pooling/config.json": ("pooling_mode", "include_prompt"),
        "2_Dense/config.json": ("in_features", "out_features", "bias", "activation_function"),
        "config_setfit.json": ("labels", "normalize_embeddings"),
        "model_head.json": ("coef", "intercept", "classes", "multi_label"),
        "tokenizer_config.json": ("model_max_length", "truncation_side"),
        "config.json": ("pad_token_id", "id2label", "sbert_ce_default_activation_function"),
    },
    "colbert": {
        CONFIG: ("query_prefix", "query_length", "query_expansion", "skiplist_words", "prompts"),
        SETTINGS: ("query_length", "document_length", "query_expansion"),
        "2_MultiVectorMask/config.json": ("skiplist_words", "skiplist_tasks"),
    },
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("values")
    encoder = str(make_checkpoint(folder / "encoder", "bert", "BertModel"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = [Transformer(encoder), Pooling(32, "mean"), Dense(32, 16)]
        body = SentenceTransformer(modules=modules, device="cpu")
        body.save(str(folder / "setfit"), create_model_card=False)
        dense = Dense(32, 8, activation_function=torch.nn.Identity(), module_input_name=TOKENS)
        modules = [Transformer(encoder), dense, MultiVectorMask([","])]
        modules.append(Normalize(module_input_name=TOKENS))
        late = MultiVectorEncoder(modules=modules, device="cpu")
        late.save(str(folder / "colbert"), create_model_card=False)
    head = {"coef": [[0.1] * 16] * 3, "intercept": [0, 0, 0], "classes": ["x", "y", "z"]}
    write_json(folder / "setfit" / "model_head.json", head)
    return {kind: folder / kind for kind in FILES}


@pytest.mark.parametrize(
    ("kind", "file"), [(kind, file) for kind, files in FILES.items() for file in files]
)
def test_a_value_of_another_kind(
    sources: dict[str, Path], tmp_path: Path, kind: str, file: str
) -> None:
    source = Path(shutil.copytree(sources[kind], tmp_path / "source"))
    content = json.loads((source / file).read_text()) if (source / file).exists() else {}
    for key in FILES[kind][file]:
        messages = []
        for value in VALUES:
            write_json(source / file, content | {key: value})
            try:
                checkpoint = load_checkpoint(str(source))
                # What is described is honoured: nothing else of it is read.
                request = ExportRequest(str(source), tmp_path / "bundle")
                describe_heads(request, checkpoint, choose_heads(checkpoint, None))
            except ClozeError as error:
                messages.append(error.message)
        assert len(messages) >= 3, key
        assert all(str(source) in message for message in messages), messages
