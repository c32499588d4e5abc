"""What sentence-transformers' files say is honoured, or refused by its own name."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.base import model as base_model
from sentence_transformers.base.modules import dense, normalize, transformer
from sentence_transformers.cross_encoder import model as cross_encoder
from sentence_transformers.multi_vector_encoder import model as multi_vector
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer import model as sentence_transformer
from sentence_transformers.sentence_transformer.modules import dropout, layer_norm, pooling
from sentence_transformers.sparse_encoder import model as sparse_encoder
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import PreTrainedTokenizerBase

from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.sentences.colbert import MASK_KEYS
from export.reading.sentences.pooling import KEYS as POOLING_KEYS
from export.reading.sentences.pooling import SPLADE_KEYS
from export.reading.sentences.projection import DENSE_KEYS, NORM_KEYS
from export.reading.sentences.settings import (
    CONFIG_KEYS,
    PYLATE_KEYS,
    SETTINGS_KEYS,
    choose_pooling,
    read_sentences,
)
from tests.helpers.checkpoints import write_json

CONFIG = "config_sentence_transformers.json"
SETTINGS = "sentence_bert_config.json"
OLD = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")


def declare(
    folder: Path, *kinds: str, pooling: dict[str, Any] | None = None, package: str = "models"
) -> Path:
    """Write modules.json with modules of these kinds, and the pooling's own config."""
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.{package}.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    if pooling is not None:
        write_json(folder / f"{kinds.index('Pooling')}_Pooling" / "config.json", pooling)
    return folder


def old_style(*active: str) -> dict[str, Any]:
    modes = {f"pooling_mode_{name}": name in active for name in OLD}
    return {"word_embedding_dimension": 32, **modes}


MEAN = old_style("mean_tokens")


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        (MEAN, "mean"),
        (old_style("cls_token"), "cls"),
        (old_style("max_tokens"), "max"),
        (old_style("lasttoken"), "lasttoken"),
        (old_style(), "mean"),  # as sentence-transformers has it
        # Booleans stand in an order of their own, names as they are listed.
        (old_style("mean_tokens", "cls_token", "lasttoken"), "cls+mean+lasttoken"),
        ({"pooling_mode": ["mean", "cls"], "embedding_dimension": 32}, "mean+cls"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["mean"], "include_prompt": True}, "mean"),
    ],
)
def test_poolings(tmp_path: Path, pooling: dict[str, Any], wanted: str) -> None:
    declare(tmp_path, "Transformer", "Pooling", "Normalize", pooling=pooling)
    said = read_sentences(tmp_path)
    assert said.pooling == wanted
    # What the checkpoint says wins over the option.
    assert choose_pooling(said, "max") == (wanted, "sentence-transformers")


def test_a_pooling_that_is_not_declared(tmp_path: Path) -> None:
    assert choose_pooling(read_sentences(tmp_path), None) == ("mean", "default")
    assert choose_pooling(read_sentences(tmp_path), "cls") == ("cls", "option")
    declare(tmp_path, "Transformer")
    assert choose_pooling(read_sentences(tmp_path), "max") == ("max", "option")


def test_what_is_said(tmp_path: Path) -> None:
    declare(tmp_path, "Transformer", "Pooling", pooling=MEAN | {"include_prompt": False})
    prompts = {"query": "find: ", "document": None}
    write_json(
        tmp_path / CONFIG,
        {
            "prompts": prompts,
            "default_prompt_name": "query",
            "truncate_dim": 8,
            "similarity_fn_name": "dot",
            "__version__": {"sentence_transformers": "6.2.0"},
            "colour": "blue",
        },
    )
    write_json(tmp_path / SETTINGS, {"max_seq_length": 40, "do_lower_case": True})
    said = read_sentences(tmp_path)
    assert said.prompts == {"query": "find: ", "document": ""}
    assert (said.default_prompt, said.include_prompt) == ("query", False)
    assert (said.dimensions, said.similarity) == (8, "dot")
    assert (said.max_tokens, said.lower_case) == (40, True)
    assert (said.cross_encoder, said.function) == (False, None)
    # What nobody reads changes nothing, and is told.
    [note] = said.notes
    assert "colour" in note


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, None),
        ({"max_seq_length": None}, None),
        ({"tokenizer_args": {"model_max_length": 8}}, 8),
        ({"processor_kwargs": {"model_max_length": 8}, "max_seq_length": 4}, 8),
        (
            {
                "processor_kwargs": {"model_max_length": 8},
                "tokenizer_args": {"model_max_length": 5},
            },
            5,
        ),
        ({"processing_kwargs": {"text": {"max_length": 9}}}, 9),
        ({"processing_kwargs": {"common": {"max_length": 9}}, "max_seq_length": 7}, 9),
        ({"processing_kwargs": {"common": {"max_length": 9}, "text": {"max_length": 5}}}, 9),
    ],
)
def test_lengths_under_every_name(
    tmp_path: Path, settings: dict[str, Any], wanted: int | None
) -> None:
    # Of several files the first that sentence-transformers looks for counts.
    write_json(tmp_path / "sentence_xlnet_config.json", {"max_seq_length": 3})
    write_json(tmp_path / "sentence_roberta_config.json", settings)
    assert read_sentences(tmp_path).max_tokens == wanted


IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("config", "own", "wanted"),
    [
        ({}, {}, None),
        ({"activation_fn": IDENTITY}, {}, "none"),
        ({}, {"sentence_transformers": {"activation_fn": IDENTITY}}, "none"),
        ({}, {"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
        # The newest name goes before the older ones.
        (
            {"activation_fn": SIGMOID},
            {"sentence_transformers": {"activation_fn": IDENTITY}},
            "sigmoid",
        ),
    ],
)
def test_activations(
    tmp_path: Path, config: dict[str, Any], own: dict[str, Any], wanted: str | None
) -> None:
    write_json(tmp_path / CONFIG, config | {"model_type": "CrossEncoder"})
    write_json(tmp_path / "config.json", own)
    said = read_sentences(tmp_path)
    assert (said.cross_encoder, said.function) == (True, wanted)


@pytest.mark.parametrize("kind", ["LSTM", "CNN", "WeightedLayerPooling", "Router"])
def test_modules_that_change_the_vector(tmp_path: Path, kind: str) -> None:
    declare(tmp_path, "Transformer", "Pooling", kind, pooling=MEAN)
    with pytest.raises(UnsupportedModel, match=f"has a {kind} module"):
        read_sentences(tmp_path)


POOLING = "1_Pooling/config.json"
ACTIVATION = "sbert_ce_default_activation_function"


@pytest.mark.parametrize(
    ("name", "content", "kind", "sentence"),
    [
        (SETTINGS, [1], SourceError, "not a JSON object"),
        (CONFIG, 3, SourceError, "not a JSON object"),
        (POOLING, [], SourceError, "not a JSON object"),
        (POOLING, {"pooling_mode": []}, SourceError, "names no pooling"),
        (POOLING, {"pooling_mode": "sum"}, UnsupportedModel, "asks for pooling sum"),
        (POOLING, MEAN | {"include_prompt": 1}, SourceError, "include_prompt 1"),
        (POOLING, MEAN | {"token_weights": [1]}, UnsupportedModel, "has token_weights"),
        (CONFIG, {"default_prompt_name": "query"}, SourceError, "default_prompt_name 'query'"),
        (CONFIG, {"prompts": {"query": 1}}, SourceError, "prompts.query 1, which is not a text"),
        (CONFIG, {"prompts": ["query"]}, SourceError, "which is not an object"),
        (CONFIG, {"default_prompt_name": ["query"]}, SourceError, "default_prompt_name .* a text"),
        (CONFIG, {"activation_fn": {}}, SourceError, "activation_fn {}, which is not a text"),
        (CONFIG, {"query_prefix": 5}, SourceError, "query_prefix 5, which is not a text"),
        (CONFIG, {"max_active_dims": "x"}, SourceError, "max_active_dims 'x', .* whole number"),
        ("config.json", {ACTIVATION: []}, UnsupportedModel, f"config.json has {ACTIVATION}"),
        (SETTINGS, {"transformer_task": []}, SourceError, "transformer_task"),
        (
            SETTINGS,
            {"processing_kwargs": {"text": {"max_length": "x" * 99}}},
            SourceError,
            r"processing_kwargs.text.max_length 'x{59}\.\.\., which is not a whole number",
        ),
        (CONFIG, {"truncate_dim": 0}, SourceError, "truncate_dim 0"),
        (CONFIG, {"truncate_dim": True}, SourceError, "truncate_dim True"),
        (CONFIG, {"similarity_fn_name": "maxsim"}, UnsupportedModel, "similarity_fn_name"),
        (CONFIG, {"activation_fn": "mine.Fn"}, UnsupportedModel, "activation_fn 'mine.Fn'"),
        (SETTINGS, {"max_seq_length": -1}, SourceError, "max_seq_length -1"),
        (SETTINGS, {"max_seq_len": 7}, UnsupportedModel, "has max_seq_len,"),
        (SETTINGS, {"tokenizer_args": 3}, SourceError, "tokenizer_args 3, which is not an obj"),
        (SETTINGS, {"tokenizer_args": {"bos_token": "x"}}, UnsupportedModel, "bos_token"),
        (SETTINGS, {"config_args": {"hidden_size": 8}}, UnsupportedModel, "config_args.hidden"),
        (SETTINGS, {"model_args": {"default_task": "x"}}, UnsupportedModel, "default_task"),
        (SETTINGS, {"tokenizer_name_or_path": "other"}, UnsupportedModel, "tokenizer_name"),
        (SETTINGS, {"query_length": 32}, UnsupportedModel, "query_length 32"),
        (SETTINGS, {"transformer_task": "text-generation"}, UnsupportedModel, "generation"),
        # A pooling pools no scores.
        (SETTINGS, {"transformer_task": "sequence-classification"}, UnsupportedModel, "sequence-"),
        (SETTINGS, {"module_output_name": "sentence_embedding"}, UnsupportedModel, "module_output"),
        (
            SETTINGS,
            {"modality_config": {"text": {"method_output_name": "pooler_output"}}},
            UnsupportedModel,
            "pooler_output",
        ),
        (
            SETTINGS,
            {"processing_kwargs": {"text": {"add_special_tokens": False}}},
            UnsupportedModel,
            r"text\.add_special_tokens False",
        ),
    ],
)
def test_what_is_refused_by_its_name(
    tmp_path: Path, name: str, content: Any, kind: type[ExportError], sentence: str
) -> None:
    declare(tmp_path, "Transformer", "Pooling", pooling=MEAN)
    write_json(tmp_path / SETTINGS, {"do_lower_case": False, "tokenizer_args": {"use_fast": True}})
    write_json(tmp_path / CONFIG, {"default_prompt_name": None, "prompts": {"query": "query: "}})
    assert read_sentences(tmp_path).pooling == "mean"
    write_json(tmp_path / name, content)
    with pytest.raises(kind, match=sentence):
        read_sentences(tmp_path)


def test_a_pooling_module_without_its_config(tmp_path: Path) -> None:
    declare(tmp_path, "Transformer", "Pooling")
    with pytest.raises(SourceError, match="1_Pooling"):
        read_sentences(tmp_path)


def test_a_module_of_another_package_is_code_that_never_runs(tmp_path: Path) -> None:
    declare(tmp_path, "Transformer", "Pooling", pooling=MEAN)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(UnsupportedModel, match=r"custom_st\.Transformer.*never run"):
        read_sentences(tmp_path)


def test_files_of_the_real_checkpoint(minilm_source: Path) -> None:
    said = read_sentences(minilm_source)
    assert (said.pooling, said.max_tokens, said.notes) == ("mean", 256, ())


def test_every_key_that_the_library_reads_is_known() -> None:
    """Fails when a release of sentence-transformers reads one more."""
    for module, known in (
        (transformer.Transformer, SETTINGS_KEYS),
        (pooling.Pooling, POOLING_KEYS),
        (dense.Dense, DENSE_KEYS),
        (layer_norm.LayerNorm, NORM_KEYS),
        (normalize.Normalize, DENSE_KEYS),
        (dropout.Dropout, {"dropout"}),
        (SpladePooling, SPLADE_KEYS),
        (MultiVectorMask, MASK_KEYS),
    ):
        read = {*module.config_keys, *getattr(module, "config_key_renames", {})}
        assert read <= known, module
    assert set(pooling._LEGACY_POOLING_MODE_KWARGS) <= POOLING_KEYS
    given = set(inspect.signature(transformer.Transformer.__init__).parameters)
    assert given - {"self", "args", "kwargs", "model_name_or_path", "backend"} <= SETTINGS_KEYS
    for library in (base_model, sentence_transformer, cross_encoder, multi_vector, sparse_encoder):
        source = inspect.getsource(library)
        # Not what is inside of its `__version__`.
        read = set(re.findall(r"""[^"]model_config(?:\.get\(|\[)["'](\w+)["']""", source))
        read |= set(re.findall(r"""["'](\w+)["'] in model_config\b[^\[]""", source))
        assert read <= CONFIG_KEYS | PYLATE_KEYS, library
    older = set(re.findall(r"config\.(sbert_\w+)", inspect.getsource(cross_encoder)))
    assert older == {"sbert_ce_default_activation_function"}


# What a tokenizer takes beside the names of its special tokens, which tokenizer.json holds.
TOKENIZER_KEYS = {
    *("model_max_length", "truncation_side", "split_special_tokens", "model_input_names"),
    # Of batches, of decoding, of chats, and of where it came from: no id changes.
    *("padding_side", "clean_up_tokenization_spaces", "chat_template", "name_or_path"),
    *("response_schema", "response_template", "extra_special_tokens", "auto_map"),
    *("init_inputs", "files_loaded", "processor_class", "max_len", "pad_token_type_id"),
    *("model_specific_special_tokens", "additional_special_tokens", "backend"),
    *("verbose", "special_tokens_pattern", "_processor_class", "tokenizer_file"),
    *("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",),
    "chat_control_tokens",
}


def test_every_setting_of_a_tokenizer_is_known() -> None:
    """Fails when a release of transformers reads one more from tokenizer_config.json."""
    source = inspect.getsource(PreTrainedTokenizerBase.__init__)
    read = set(re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+)["']""", source))
    assert read
    assert read <= TOKENIZER_KEYS
