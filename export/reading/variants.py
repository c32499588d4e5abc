"""What a config.json says in other words than those of the class that computes it.

Some checkpoints name the code they were trained with, whose class has since become a part of
transformers under another name. Their configs are put into its words. What that class would compute
otherwise than the checkpoint was trained is refused by its key, before anything is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import SourceError, UnsupportedModel
from export.reading.crammed import LOCAL_FILE, list_notes, translate_crammed
from export.reading.files import has_file, read_architecture, read_object
from export.reading.kinds import CAUSAL, refuse_other_family, refuse_without_config
from models.families import FAMILIES, Family

# Of these families, what a key may say; left out it may say nothing.
_ALLOWED: dict[str, dict[str, tuple[Any, ...]]] = {
    "nomic_bert": {
        "rotary_scaling_factor": (),
        "rotary_emb_scale_base": (),
        "rotary_emb_fraction": (1.0,),
        "rotary_emb_interleaved": (False,),
        "moe_every_n_layers": (0,),
        "num_experts": (0, 1),
        "prenorm": (False,),
        "parallel_block": (False,),
        "use_rms_norm": (False,),
        "qkv_proj_bias": (False,),
        "mlp_fc1_bias": (False,),
        "mlp_fc2_bias": (False,),
        "causal": (False,),
        "activation_function": ("swiglu",),
    },
    "gte": {
        "logn_attention_scale": (False,),
        "logn_attention_clip1": (False,),
        "layer_norm_type": ("layer_norm",),
        "position_embedding_type": ("rope",),
    },
}
# How far one turns by position, where that is the same in texts of every length.
_TURNS = ("default", "linear", "yarn", "llama3")
_NEW = {
    "NewModel": "GteModel",
    "NewForMaskedLM": "GteForMaskedLM",
    "NewForSequenceClassification": "GteForSequenceClassification",
    "NewForTokenClassification": "GteForTokenClassification",
}
_GATES = ("geglu", "reglu")


@dataclass(frozen=True, slots=True)
class Declared:
    """A config as it was declared: its file, and what it says in the words of its class.

    `translated` says that these words are not the file's own, `longest` is the longest text that
    the class computes as the checkpoint was trained, where that is not what the config says.
    """

    file: Path
    family: Family
    content: dict[str, Any]
    translated: bool = False
    longest: int | None = None
    notes: tuple[str, ...] = ()


def read_declared(path: Path) -> Declared:
    """The config of the checkpoint in `path`. Raises SourceError or UnsupportedModel."""
    file = path / "config.json"
    if not has_file(file) and has_file(path / LOCAL_FILE):
        file = path / LOCAL_FILE
    if not has_file(file):
        refuse_without_config(path)
    raw = read_object(file)
    content = _translate(file, raw)
    refuse_other_family(file, content)
    kind: str = content["model_type"]
    _refuse_causal(file, content)
    for key, allowed in _ALLOWED.get(kind, {}).items():
        if raw.get(key) is not None and raw[key] not in allowed:
            raise UnsupportedModel(
                f"{file} has {key} {raw[key]!r}, which transformers' {kind} models do not compute"
            )
    check = _CHECKS.get(kind)
    if check is not None:
        content = check(file, content)
    _refuse_turns(file, content)
    longest, notes = _limit_big_bird(raw) if kind == "big_bird" else (None, ())
    if kind == "crammedBERT":
        notes = list_notes(content)
    return Declared(file, FAMILIES[kind], content, content != raw, longest, notes)


def _translate(file: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """The config in the words of its class, where it is in those of its own code."""
    if raw.get("model_type") == "new":
        return _translate_new(raw)
    if raw.get("model_type") == "crammedBERT" or file.name == LOCAL_FILE:
        return translate_crammed(file, raw)
    if raw.get("position_embedding_type") == "alibi" and _names_jina(raw):
        return _translate_jina(file, raw)
    return raw


def _refuse_causal(file: Path, raw: dict[str, Any]) -> None:
    architecture = read_architecture(raw)
    if raw.get("is_decoder"):
        what = "is_decoder true"
    elif architecture.endswith(CAUSAL):
        what = f"the architecture {architecture}"
    else:
        return
    raise UnsupportedModel(
        f"{file} has {what}: in it a token sees only those before it (causal attention), and here "
        "every token sees all of its text; where it was trained so, correct config.json"
    )


def _refuse_turns(file: Path, content: dict[str, Any]) -> None:
    """Raise UnsupportedModel for rotary positions that depend on how long a text is."""
    for key in ("rope_scaling", "rope_parameters"):
        said = content.get(key)
        kind = said.get("rope_type", said.get("type")) if isinstance(said, dict) else None
        if isinstance(kind, str) and kind not in _TURNS:
            raise UnsupportedModel(
                f"{file} has {key} of type {kind!r}; supported are {', '.join(_TURNS)}"
            )


def _translate_new(raw: dict[str, Any]) -> dict[str, Any]:
    """Alibaba-NLP's own code calls itself `new`, and became transformers' gte."""
    content = raw | {"model_type": "gte"}
    name = read_architecture(raw)
    if name == "NewForTokenClassification" and not raw.get("id2label"):
        # As gte-multilingual-base has it, which is an encoder.
        name = "NewModel"
    if name:
        content["architectures"] = [_NEW.get(name, name)]
    return content


def _names_jina(raw: dict[str, Any]) -> bool:
    named = f"{raw.get('auto_map', '')} {raw.get('_name_or_path', '')}"
    return raw.get("model_type") == "bert" and "jina-bert" in named


def _translate_jina(file: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Jina's own BERT calls itself `bert`, and is told by its code's name."""
    gate = raw.get("feed_forward_type", "original")
    if gate not in _GATES:
        raise UnsupportedModel(
            f"{file} has feed_forward_type {gate!r}; supported is one of {', '.join(_GATES)}"
        )
    name = read_architecture(raw)
    content = {key: value for key, value in raw.items() if key != "position_embedding_type"}
    content |= {
        "model_type": "jina_bert",
        "qk_norm": "qk-post-norm" in f"{raw.get('auto_map', '')} {raw.get('_name_or_path', '')}",
    }
    if name:
        content["architectures"] = [name if name.startswith("Jina") else f"Jina{name}"]
    return content


def _check_gte(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    content = {key: value for key, value in content.items() if key != "position_embedding_type"}
    scaling = content.get("rope_scaling")
    if not isinstance(scaling, dict) or scaling.get("type", scaling.get("rope_type")) != "ntk":
        return content
    # Fixed NTK (kexue.fm, 9706): the base times the factor, and all frequencies less by the
    # factor's power of 2 / size: linear scaling by that of another base.
    if scaling.get("mixed_b") is not None:
        raise UnsupportedModel(
            f"{file} has rope_scaling.mixed_b, which transformers' gte models do not compute"
        )
    numbers = {
        "rope_scaling.factor": scaling.get("factor"),
        "rope_theta": content.get("rope_theta"),
        "hidden_size": content.get("hidden_size"),
        "num_attention_heads": content.get("num_attention_heads"),
    }
    for key, number in numbers.items():
        if not isinstance(number, int | float) or isinstance(number, bool) or number < 1:
            raise SourceError(f"{file} is not usable: {key} is {number!r}, not a number above 1")
    factor, theta, width, heads = map(float, numbers.values())  # type: ignore[arg-type]
    parameters = {
        "rope_type": "linear",
        "rope_theta": theta * factor,
        "factor": factor ** (2 * heads / width),
    }
    rest = {
        key: value for key, value in content.items() if key not in ("rope_scaling", "rope_theta")
    }
    return rest | {"rope_parameters": parameters}


def _check_nomic(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    native = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_positions": "max_position_embeddings",
    }
    for old, new in native.items():
        if old in content and new not in content:
            raise UnsupportedModel(
                f"{file} has {old} and no {new}, by which transformers knows it; take the "
                "checkpoint's newest revision, which has both"
            )
    same = {"rotary_emb_base": "rope_theta", "layer_norm_epsilon": "layer_norm_eps"}
    theirs = {new: content[old] for old, new in same.items() if content.get(old) is not None}
    if content.get("rope_parameters"):
        theirs.pop("rope_theta", None)
    return theirs | content


def _check_big_bird(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    if read_architecture(content) == "BigBirdForQuestionAnswering":
        raise UnsupportedModel(
            f"{file} names architecture 'BigBirdForQuestionAnswering', whose head looks for the "
            "end of the question; supported are heads that read each token by itself"
        )
    # As transformers itself computes what is short enough.
    return content | {"attention_type": "original_full"}


def _limit_big_bird(raw: dict[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """The longest text that is attended to as a whole, not in random blocks, and a note on it."""
    sizes = [raw.get("num_random_blocks", 3), raw.get("block_size", 64)]
    if raw.get("attention_type", "block_sparse") == "original_full":
        return None, ()
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        return None, ()
    longest = (5 + 2 * sizes[0]) * sizes[1]
    note = f"texts of more than {longest} tokens, which it reads in random blocks, are not answered"
    return longest, (note,)


def _check_xmod(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    languages, chosen = content.get("languages", ["en_XX"]), content.get("default_language")
    if not isinstance(languages, list) or chosen not in languages:
        raise UnsupportedModel(
            f"{file} has default_language {chosen!r}; a bundle answers in one language, set it to "
            f"one of {languages}"
        )
    return content


def _check_roberta(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    named = str(content.get("auto_map", ""))
    if "lora_adaptations" in content or "XLMRobertaLoRA" in named:
        raise UnsupportedModel(
            f"{file} is of jina-embeddings-v3 with the adapters of its tasks (XLMRobertaLoRA), "
            "which is code of its own; export jinaai/jina-embeddings-v3-hf, for which transformers "
            "has a class"
        )
    return content


_CHECKS: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "nomic_bert": _check_nomic,
    "gte": _check_gte,
    "big_bird": _check_big_bird,
    "xmod": _check_xmod,
    "xlm-roberta": _check_roberta,
}
