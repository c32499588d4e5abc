"""ColBERT: a vector for each token, from each of the containers that it comes in.

Read as sentence-transformers reads them (6.2): its own saves (modules Transformer, Dense,
MultiVectorMask, Normalize), PyLate's (Transformer, pylate's Dense; knobs at the top level of
config_sentence_transformers.json) and Stanford's (architecture HF_ColBERT, linear.weight beside the
encoder's, artifact.metadata). Khattab and Zaharia 2020; Santhanam et al. 2022.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import AddedToken

from export.errors import SourceError, UnsupportedModel
from export.reading.sentences.forms import Mask, Stanford, read_form
from export.reading.sentences.modules import Module
from export.reading.sentences.pooling import refuse_unknown
from export.reading.sentences.projection import Dense, Normalize, read_token_modules
from export.reading.sentences.settings import PYLATE_KEYS, Sentences
from export.reading.weights import find_weights, read_tensors

STANFORD = "HF_ColBERT"
_CONFIG = "config_sentence_transformers.json"
MASK_KEYS = {"skiplist_words", "skiplist_tasks", "keep_only_token_ids"}
_USUAL_LENGTH = 32
Role = Literal["query", "document"]
_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Expansion:
    """Queries are filled with a token up to `length`: `fixed`, or `min` where they may be longer.

    Without `attend` the words of a query do not see these tokens, which see the words.
    """

    strategy: Literal["fixed", "min"]
    length: int
    attend: bool
    token: str | None


@dataclass(frozen=True, slots=True)
class Late:
    """What a ColBERT says: modules from hidden rows [n, H] to vectors [n, D], and how to ask it.

    `prompts` go before a query and a document. `markers` are those that are one token each.
    `skipped` words are left out of the answers to the roles in `skipped_for`, and `unknown` are
    roles that nobody asks by here.
    """

    modules: torch.nn.Module
    dimensions: int
    prompts: Mapping[str, str]
    markers: tuple[str, ...]
    query_tokens: int | None
    document_tokens: int | None
    expansion: Expansion | None
    skipped: tuple[str, ...]
    skipped_for: tuple[Role, ...]
    unknown: tuple[str, ...] = ()

    @property
    def aside(self) -> bool:
        """Whether some tokens see others that do not see them."""
        return self.expansion is not None and not self.expansion.attend

    @property
    def notes(self) -> tuple[str, ...]:
        """What of its files changes no answer."""
        if not self.unknown:
            return ()
        named = ", ".join(map(repr, self.unknown))
        return (f"skiplist_tasks names {named}; texts are asked about as query or document here",)

    def register(self, tokenizer: Any) -> None:
        """Have the tokenizer take each marker it knows for one token, as when it was trained."""
        added, known = set(tokenizer.added_tokens_encoder), tokenizer.get_vocab()
        for marker in self.markers:
            for form in (marker, *marker.split(None, 1)[:1]):
                if form in added or form in known:
                    if tokenizer.tokenize(form) != [form]:
                        token = AddedToken(form, normalized=False, special=True)
                        tokenizer.add_special_tokens({"additional_special_tokens": [token]})
                    break

    def list_skipped(self, tokenizer: Any) -> tuple[int, ...]:
        """The ids that are left out; a word that is not one token is none of them."""
        ids = [(word, tokenizer.convert_tokens_to_ids(word)) for word in self.skipped]
        unknown = tokenizer.unk_token_id
        known = {number for word, number in ids if number != unknown or word == tokenizer.unk_token}
        return tuple(sorted(known))


def read_colbert(path: Path, said: Sentences, *, stanford: bool, width: int) -> Late | None:
    """What the checkpoint at `path` says, None where it is no ColBERT.

    `stanford`: its architecture is theirs; `width` is its hidden size. Raises SourceError or
    UnsupportedModel.
    """
    if not said.multi_vector and not stanford:
        return None
    late = _read_saved(path, said, width) if said.multi_vector else _read_stanford(path, width)
    if said.default_prompt is not None and said.default_prompt not in late.prompts:
        raise UnsupportedModel(
            f"{path / _CONFIG} has default_prompt_name {said.default_prompt!r}; supported is one "
            f"of {', '.join(map(repr, late.prompts))}"
        )
    return late


def _read_saved(path: Path, said: Sentences, width: int) -> Late:
    modules, config, settings = said.modules, said.config, said.settings
    pylate = config["model_type"] == "ColBERT"
    parts, dimensions, mask = read_token_modules(modules, width)
    if pylate:
        parts.append(Normalize())
    elif mask is None:
        raise UnsupportedModel(f"{path / 'modules.json'} has no MultiVectorMask, as a ColBERT has")
    words: Sequence[str] | None = config.get("skiplist_words")
    roles: Sequence[str] = ("document",)
    if mask is not None:
        words, roles = _read_mask(mask)
    elif words is None:
        words = list(string.punctuation)
    prompts = dict(said.prompts)
    markers = []
    for key, role in (("query_prefix", "query"), ("document_prefix", "document")):
        if key in config:
            marker = config[key] or ""
            prompts[role] = marker + prompts.get(role, "").removeprefix(marker)
            markers.append(marker)
    expansion, query_tokens = _find_expansion(path / _CONFIG, config, settings)
    return Late(
        modules=torch.nn.Sequential(*parts).eval(),
        dimensions=dimensions,
        prompts=prompts,
        markers=tuple(marker for marker in markers if marker.split()),
        query_tokens=query_tokens,
        document_tokens=settings.get("document_length") or config.get("document_length"),
        expansion=expansion,
        skipped=tuple(words or ()),
        skipped_for=tuple(role for role in _ROLES if role in roles),
        unknown=tuple(role for role in roles if role not in _ROLES),
    )


def _find_expansion(
    file: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Expansion | None, int | None]:
    """The expansion and the longest query, from the module's own settings or from PyLate's."""
    length = settings.get("query_length") or config.get("query_length")
    if "query_expansion" in settings:
        return _read_expansion(file, settings["query_expansion"]), length
    if "query_expansion" in config:
        return _read_expansion(file, config["query_expansion"]), length
    if not PYLATE_KEYS & config.keys() or config.get("do_query_expansion") is False:
        return None, length
    attend = config.get("attend_to_expansion_tokens", config.get("attend_to_mask_tokens"))
    return Expansion("fixed", length or _USUAL_LENGTH, bool(attend), None), None


def _read_expansion(file: Path, given: dict[str, Any] | None) -> Expansion | None:
    if given is None:
        return None
    refuse_unknown(file, given, {"strategy", "length", "attend", "token"})
    strategy, length = given.get("strategy"), given.get("length")
    if strategy not in ("fixed", "min") or length is None:
        raise SourceError(
            f"{file} has query_expansion {given!r}, which says no strategy and length"
        )
    return Expansion(strategy, length, bool(given.get("attend")), given.get("token"))


def _read_mask(module: Module) -> tuple[list[str] | None, list[str]]:
    """The words that it skips, and the roles in which it does."""
    file = module.folder / "config.json"
    content = read_form(file, Mask, required=False)
    refuse_unknown(file, content, MASK_KEYS)
    if content.get("keep_only_token_ids"):
        raise UnsupportedModel(f"{file} has keep_only_token_ids, which is not supported")
    roles = content.get("skiplist_tasks")
    if roles is None:
        roles = ["document"]
    return content.get("skiplist_words"), [roles] if isinstance(roles, str) else roles


def _read_stanford(path: Path, width: int) -> Late:
    """Stanford's: what artifact.metadata leaves out is as its own code has it."""
    said = read_form(path / "artifact.metadata", Stanford, required=False)
    weights: dict[str, torch.Tensor] = {}
    for file in find_weights(path).files:
        weights |= {
            name: value for name, value in read_tensors(file).items() if name == "linear.weight"
        }
    if "linear.weight" not in weights or weights["linear.weight"].shape[1:] != (width,):
        raise SourceError(
            f"{path} has no linear.weight [dimensions, {width}], which {STANFORD} ends with"
        )
    projection = weights["linear.weight"]
    dense = Dense(
        width, len(projection), bias=False, activation=torch.nn.Identity(), residual=False
    )
    dense.load_state_dict({"linear.weight": projection})
    markers = {
        "query": (said.get("query_token_id") or "[unused0]") + " ",
        "document": (said.get("doc_token_id") or "[unused1]") + " ",
    }
    length, attend = said.get("query_maxlen") or _USUAL_LENGTH, said.get("attend_to_mask_tokens")
    return Late(
        modules=torch.nn.Sequential(dense, Normalize()).eval(),
        dimensions=len(projection),
        prompts=markers,
        markers=tuple(markers.values()),
        query_tokens=None,
        document_tokens=said.get("doc_maxlen"),
        expansion=Expansion("fixed", length, bool(attend), None),
        skipped=tuple(string.punctuation) if said.get("mask_punctuation", True) else (),
        skipped_for=("document",),
    )
