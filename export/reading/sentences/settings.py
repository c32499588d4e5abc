"""What sentence-transformers' files say of a checkpoint's answers, beside its modules' weights.

Read is what sentence-transformers itself reads (6.2), under every name it has had: lengths,
prompts, dimensions, similarity, activation. What they say is honoured, or refused by its own name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from export.errors import SourceError, UnsupportedModel
from export.reading.files import has_file, read_object
from export.reading.sentences.forms import Config, Settings, read_form
from export.reading.sentences.modules import TRANSFORMERS, Module, list_modules
from export.reading.sentences.pooling import Splade, read_pooling, read_splade, refuse_unknown
from models.bundle.manifest import Function, Pooling, PoolingSource, Similarity

_CONFIG = "config_sentence_transformers.json"
# What the Transformer module's own file has been called; the first that is there is read.
_SETTINGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# In config_sentence_transformers.json. The last three say nothing of a BERT's answers in fp32.
CONFIG_KEYS = {
    *("prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name", "activation_fn"),
    "max_active_dims",
    *("model_type", "__version__", "requirements", "keep_in_fp32_modules"),
}
# In sentence_bert_config.json. `unpad_inputs` is about speed alone.
SETTINGS_KEYS = {
    *("max_seq_length", "do_lower_case", "tokenizer_name_or_path"),
    *("transformer_task", "modality_config", "module_output_name", "processing_kwargs"),
    *("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs"),
    *("config_args", "config_kwargs", "unpad_inputs"),
    *("query_length", "document_length", "query_expansion"),
}
# What the Transformer module hands on, for each task, where it computes what is computed here.
_TASKS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "fill-mask": ("logits", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
}
# Of the arguments for weights and tokenizer those that change no answer in fp32.
_HARMLESS = {
    *("torch_dtype", "dtype", "attn_implementation", "low_cpu_mem_usage", "use_safetensors"),
    *("use_fast", "trust_remote_code", "add_pooling_layer", "padding_side", "cache_dir"),
    *("padding", "return_tensors", "return_attention_mask", "return_token_type_ids"),
    *("local_files_only", "token", "revision", "device_map", "pad_to_multiple_of"),
}
# What a ColBERT's files call it, sentence-transformers' own first and then PyLate's, which has at
# the top level of config_sentence_transformers.json what the other has in its modules.
MULTI_VECTOR = ("MultiVectorEncoder", "ColBERT")
PYLATE_KEYS = {
    *("query_prefix", "document_prefix", "query_length", "document_length", "query_expansion"),
    *("do_query_expansion", "attend_to_expansion_tokens", "attend_to_mask_tokens"),
    "skiplist_words",
}
_FUNCTIONS: dict[str, Function] = {
    "torch.nn.modules.linear.Identity": "none",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.Softmax": "softmax",
}


@dataclass(frozen=True, slots=True)
class Sentences:
    """What the files say; as it is here, where there are none.

    `pooling` is one or several joined by `+`, `dimensions` how many of a vector are given unasked,
    `weights` how many of a sparse one,
    `function` what a cross-encoder applies to its logits, `max_tokens` the longest text, whatever
    the tokenizer says of it. A
    `multi_vector` one is a ColBERT, which is read out of the contents of its files, `config` and
    `settings`.
    """

    modules: tuple[Module, ...] = ()
    pooling: str | None = None
    splade: Splade | None = None
    weights: int | None = None
    include_prompt: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dimensions: int | None = None
    similarity: Similarity | None = None
    cross_encoder: bool = False
    function: Function | None = None
    max_tokens: int | None = None
    lower_case: bool = False
    multi_vector: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_sentences(path: Path) -> Sentences:
    """What the files of the checkpoint at `path` say. Raises SourceError or UnsupportedModel."""
    modules = list_modules(path)
    poolings = [module for module in modules if module.kind == "Pooling"]
    if len(poolings) > 1:
        raise UnsupportedModel(f"{path / 'modules.json'} pools {len(poolings)} times")
    pooling, include_prompt = read_pooling(poolings[0]) if poolings else (None, True)
    splade = _read_splade(path, modules)
    encoder = modules[0].folder if modules and modules[0].kind in TRANSFORMERS else path
    file = next((encoder / name for name in _SETTINGS if has_file(encoder / name)), None)
    settings = read_form(file, Settings) if file is not None else {}
    config = read_form(path / _CONFIG, Config, required=False)
    if file is not None:
        _check_settings(file, settings, modules)
    multi_vector = config.get("model_type") in MULTI_VECTOR
    prompts, default = _read_prompts(path / _CONFIG, config)
    return Sentences(
        modules=modules,
        pooling=pooling,
        splade=splade,
        weights=config.get("max_active_dims"),
        include_prompt=include_prompt,
        prompts=prompts,
        default_prompt=default,
        dimensions=config.get("truncate_dim"),
        similarity=None if multi_vector else _read_similarity(path / _CONFIG, config),
        cross_encoder=_is_cross_encoder(config, settings),
        function=_read_function(path, encoder, config),
        max_tokens=_find_length(settings),
        lower_case=bool(settings.get("do_lower_case")),
        multi_vector=multi_vector,
        config=config,
        settings=settings,
        notes=tuple(
            f"{_CONFIG} has {key}, which sentence-transformers does not read"
            for key in sorted(config)
            if key not in CONFIG_KEYS and not (multi_vector and key in PYLATE_KEYS)
        ),
    )


def choose_pooling(said: Sentences, option: Pooling | None) -> tuple[str, PoolingSource]:
    """The pooling and where it comes from: the checkpoint's files, else the option, else mean."""
    if said.pooling:
        return said.pooling, "sentence-transformers"
    return (option, "option") if option else ("mean", "default")


def _read_splade(path: Path, modules: Sequence[Module]) -> Splade | None:
    """What pools masked-LM logits, where the modules do: it stands alone behind the transformer."""
    kinds = [module.kind for module in modules if module.kind != "Dropout"]
    if "SpladePooling" not in kinds:
        return None
    if len(kinds) != 2 or kinds[0] not in TRANSFORMERS:
        raise UnsupportedModel(
            f"{path / 'modules.json'} has a SpladePooling among {', '.join(kinds)}; supported is "
            "one behind a Transformer"
        )
    return read_splade(next(module for module in modules if module.kind == "SpladePooling"))


def _read_prompts(file: Path, config: dict[str, Any]) -> tuple[dict[str, str], str | None]:
    # Without a text it is one that adds nothing.
    texts = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    # PyLate has those of a role by themselves.
    if default is not None and default not in texts and f"{default}_prefix" not in config:
        raise SourceError(
            f"{file} has default_prompt_name {default!r}, which is not among its prompts "
            f"{', '.join(map(repr, texts)) or '(there are none)'}; correct one of them"
        )
    return texts, default


def _read_similarity(file: Path, config: dict[str, Any]) -> Similarity | None:
    named = config.get("similarity_fn_name")
    if named is not None and named not in get_args(Similarity):
        raise UnsupportedModel(
            f"{file} has similarity_fn_name {named!r}; supported are "
            f"{', '.join(get_args(Similarity))}"
        )
    return named


def _is_cross_encoder(config: dict[str, Any], settings: dict[str, Any]) -> bool:
    task = settings.get("transformer_task")
    return config.get("model_type") == "CrossEncoder" or task == "sequence-classification"


def _read_function(path: Path, encoder: Path, config: dict[str, Any]) -> Function | None:
    """The activation of a cross-encoder, in the order in which sentence-transformers looks."""
    own = read_object(encoder / "config.json", required=False)
    nested = own.get("sentence_transformers")
    places = (
        (path / _CONFIG, "activation_fn", config.get("activation_fn")),
        (
            encoder / "config.json",
            "activation_fn",
            nested.get("activation_fn") if isinstance(nested, dict) else None,
        ),
        (
            encoder / "config.json",
            "sbert_ce_default_activation_function",
            own.get("sbert_ce_default_activation_function"),
        ),
    )
    for file, key, named in places:
        if named is None:
            continue
        if not isinstance(named, str) or named not in _FUNCTIONS:
            raise UnsupportedModel(
                f"{file} has {key} {named!r}; supported are {', '.join(_FUNCTIONS)}"
            )
        return _FUNCTIONS[named]
    return None


def _check_settings(file: Path, settings: dict[str, Any], modules: Sequence[Module]) -> None:
    """Raise UnsupportedModel for a setting of the Transformer module that is not honoured."""
    refuse_unknown(file, settings, SETTINGS_KEYS)
    _check_output(file, settings, modules)
    late = {"query_expansion", "query_length", "document_length"}
    masked = any(module.kind == "MultiVectorMask" for module in modules)
    for key in ("tokenizer_name_or_path", *(() if masked else sorted(late))):
        if settings.get(key) is not None:
            raise UnsupportedModel(f"{file} has {key} {settings[key]!r}, which is not supported")
    for key in ("model_args", "model_kwargs", "config_args", "config_kwargs"):
        _check_arguments(file, key, settings.get(key), set())
    for key in ("tokenizer_args", "processor_kwargs"):
        _check_arguments(file, key, settings.get(key), {"model_max_length"})
    processing = settings.get("processing_kwargs") or {}
    for kind in ("text", "common"):
        _check_arguments(file, f"processing_kwargs.{kind}", processing.get(kind), {"max_length"})


def _check_output(file: Path, settings: dict[str, Any], modules: Sequence[Module]) -> None:
    """Raise UnsupportedModel where the module hands on something else than is computed here."""
    behind = {module.kind for module in modules}
    usual = "fill-mask" if behind & {"MLMTransformer"} else "feature-extraction"
    task = settings.get("transformer_task", usual)
    pooled = {"sequence-classification": set(), "fill-mask": {"SpladePooling"}}.get(
        task, {"Pooling"}
    )
    if task not in _TASKS or behind & {"Pooling", "SpladePooling"} - pooled:
        raise UnsupportedModel(f"{file} has transformer_task {task!r}, which is not computed here")
    output, feature = _TASKS[task]
    modality = settings.get("modality_config", {"text": {"method_output_name": output}})
    text = modality.get("text") if isinstance(modality, dict) else None
    wanted = {"method": "forward", "method_output_name": output}
    if not isinstance(text, dict) or wanted | text != wanted:
        raise UnsupportedModel(
            f"{file} has a modality_config that takes {text!r} of the model; supported is {output}"
        )
    if settings.get("module_output_name", feature) != feature:
        raise UnsupportedModel(
            f"{file} has module_output_name {settings['module_output_name']!r}; "
            f"supported is {feature}"
        )


def _check_arguments(
    file: Path, name: str, arguments: Mapping[str, Any] | None, honoured: set[str]
) -> None:
    for key, value in (arguments or {}).items():
        usual = (key, value) in (
            ("truncation", True),
            ("truncation", "longest_first"),
            ("add_special_tokens", True),
            ("truncation_side", "right"),
        )
        if key not in honoured | _HARMLESS and not usual:
            raise UnsupportedModel(
                f"{file} has {name}.{key} {value!r}, which is not supported: answers would not "
                "be the original's"
            )


def _find_length(settings: Mapping[str, Any]) -> int | None:
    """The longest text by the settings, of which sentence-transformers takes the first it finds."""
    processing = settings.get("processing_kwargs") or {}
    given = [(processing.get(kind) or {}).get("max_length") for kind in ("common", "text")]
    given += [
        (settings.get(key) or {}).get("model_max_length")
        for key in ("tokenizer_args", "processor_kwargs")
    ]
    given.append(settings.get("max_seq_length"))
    return next((length for length in given if length is not None), None)
