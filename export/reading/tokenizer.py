"""The tokenizer of a checkpoint: a fast one, with its vocabulary, that fits the model."""

import importlib.util
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PretrainedConfig

from export.errors import SourceError, UnsupportedModel
from export.reading.files import first_line, has_file, read_json, read_object, refuse_pointer

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
)
_JSON_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)

# Those that no fast form exists of, and what they do that none does.
_SLOW = {
    "PhobertTokenizer": "of text whose words were joined before it sees them",
    "BertweetTokenizer": "by rules of its own for tweets",
    "BertJapaneseTokenizer": "by MeCab, Sudachi or Juman++",
    "RoFormerTokenizer": "of Chinese by jieba",
    "RoCBertTokenizer": "with shapes and pronunciations of characters beside their ids",
}


def load_tokenizer(path: Path, config: PretrainedConfig, *, lower_case: bool = False) -> Any:
    """The tokenizer in `path`. Raises SourceError or UnsupportedModel.

    `lower_case`: texts are lower-cased before anything else is done to them.
    """
    if not any(has_file(path / name) for name in _TOKENIZER_FILES):
        raise SourceError(
            f"{path} has no tokenizer; save one there with tokenizer.save_pretrained()"
        )
    for name in _TOKENIZER_FILES:
        if has_file(path / name):
            refuse_pointer(path / name)
    _check_sentencepiece(path)
    _check_kind(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        _refuse_damaged(path)
        raise SourceError(
            f"the tokenizer in {path} cannot be read: {first_line(error)}; save it there again "
            "with tokenizer.save_pretrained()"
        ) from None
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModel(
            f"{path} has a {type(tokenizer).__name__}, of which transformers has no fast form; put "
            "a tokenizer.json there that gives the same ids, with tokenizer_class "
            "PreTrainedTokenizerFast in tokenizer_config.json"
        )
    _check_tokenizer_files(path, type(tokenizer).vocab_files_names)
    _check_settings(path, tokenizer)
    _check_words(path, tokenizer)
    if lower_case:
        _lower_case(tokenizer.backend_tokenizer)
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise UnsupportedModel(
            f"the tokenizer in {path} has token ids up to {largest}, the model only "
            f"{config.vocab_size} embeddings; resize the embeddings and save both again"
        )
    return tokenizer


def _refuse_damaged(path: Path) -> None:
    """Raise SourceError with the file that is no JSON, or no tokenizer, where one is."""
    for name in _JSON_FILES:
        read_json(path / name, required=False)
    file = path / "tokenizer.json"
    try:
        if has_file(file):
            Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise SourceError(
            f"{file} is no tokenizer: {first_line(error)}; save it there again with "
            "tokenizer.save_pretrained()"
        ) from None


def gives_segments(tokenizer: Any) -> bool:
    """Whether its template tells the second text of a pair from the first.

    Not by `model_input_names`: some classes of transformers 5 leave token_type_ids out of it, whose
    models were trained with them (huggingface/transformers#48128).
    """
    return 1 in tokenizer.backend_tokenizer.encode("a", "a").type_ids


def _check_kind(path: Path) -> None:
    """Raise UnsupportedModel for a tokenizer that is code of transformers, and no file of ids."""
    for file in (path / "tokenizer_config.json", path / "config.json"):
        name = str(read_object(file, required=False).get("tokenizer_class", ""))
        kind = name.removesuffix("Fast")
        if kind in _SLOW:
            raise UnsupportedModel(
                f"{file} has tokenizer_class {name!r}, which divides words {_SLOW[kind]}: there is "
                "no fast form of it to answer with; take a model with another tokenizer"
            )


def _check_settings(path: Path, tokenizer: Any) -> None:
    """Raise UnsupportedModel for a setting that changes ids and is not in tokenizer.json."""
    if getattr(tokenizer, "split_special_tokens", False):
        raise UnsupportedModel(
            f"{path / 'tokenizer_config.json'} has split_special_tokens True, which is not "
            "supported: texts would have other tokens than the original's"
        )


def _check_words(path: Path, tokenizer: Any) -> None:
    """Raise SourceError where it has no token for a word that its vocabulary lacks."""
    try:
        tokenizer.backend_tokenizer.encode("a", "\U0010ffff")
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise SourceError(
            f"the tokenizer in {path} gives texts no ids: {first_line(error)}; correct its "
            "vocabulary in tokenizer.json"
        ) from None


def _lower_case(backend: Any) -> None:
    """Put lower-casing before whatever else normalizes, as sentence-transformers does it."""
    own = backend.normalizer
    parts: list[Any] = [own] if own else []
    if isinstance(own, normalizers.Sequence):
        parts = [own[place] for place in range(len(own))]
    if any(isinstance(part, normalizers.Lowercase) for part in parts):
        return
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


def _check_sentencepiece(path: Path) -> None:
    """A tokenizer that is only a sentencepiece model is read with a package of its own."""
    models = sorted(file.name for file in path.glob("*.model"))
    others = [name for name in _TOKENIZER_FILES if not name.endswith(".model")]
    if not models or any(has_file(path / name) for name in others):
        return
    if importlib.util.find_spec("sentencepiece") is None:
        raise SourceError(
            f"{path} has its tokenizer as {models[0]} alone; run `pip install sentencepiece` "
            "beside the exporter, or save tokenizer.json there"
        )


def _check_tokenizer_files(path: Path, names: dict[str, str]) -> None:
    """Transformers makes do without a vocabulary, and then knows no word."""
    needed = {name for kind, name in names.items() if kind != "tokenizer_file"}
    missing = sorted(name for name in needed if not has_file(path / name))
    if missing and not has_file(path / "tokenizer.json"):
        raise SourceError(
            f"the tokenizer in {path} lacks {', '.join(missing)}; save it there again with "
            "tokenizer.save_pretrained()"
        )
