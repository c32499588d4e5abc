"""Tiny checkpoints for tests: random weights, and tokenizers of the kind each family really has.

The vocabularies are built from one list of words, so they are the same in every run.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from tests.helpers.relatives import RELATIVES

_TEXT = """
the a an and or of to in on at by for with from is are was were be been has have had will not
it he she they we you i this that these those what who where when why how all some many few one
two three four five six seven eight nine ten first last good bad great small large old new long
short high low red green blue black white hot cold warm open closed fast slow happy sad early
late man woman child friend king queen city town river bridge sea mountain road house door
window table chair book paper letter word language music song game food bread water milk wine
coffee tea market shop money price train bus car ship plane horse dog cat bird fish tree flower
sun moon star rain snow wind day night morning evening week month year time work school teacher
student doctor nurse war peace law court company team film story news science paris london rome
france england italy capital say said go went come came see saw make made take took give gave
know think find want need like love hate eat drink read write play run walk sleep buy sell
"""
WORDS = tuple(_TEXT.split())
SYLLABLES = ("ing", "ed", "er", "est", "ly", "ness", "ment", "tion", "able", "ful", "s", "y")
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()éèüöäßñç日本今雨語")
COMMON_MASK = "[MASK]"
FAMILIES = (
    "bert",
    "distilbert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "electra",
    "albert",
    "mobilebert",
    "mpnet",
    "modernbert",
    "deberta-v2",
    *RELATIVES,
)
# Computed as one of the others, with other positions or tokenizers: every run takes their kin, and
# `make test-slow` them.
ALIKE = (
    "xlm-roberta",
    "camembert",
    "electra",
    "ernie",
    "data2vec-text",
    "roberta-prelayernorm",
    "xmod",
    "xlm-roberta-xl",
    "megatron-bert",
    "rembert",
)
NO_READER = ("nomic_bert", "gte", "eurobert", "big_bird")
# Those that transformers has none of: tests/export/architectures.
OWN_FAMILIES = ("crammedBERT", "jina_bert")


def in_turn(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of which these run every time, and the others with `make test-slow`."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


# One of each kind: segments, positions that follow padding, a window, the padded layout. The others
# take their turn in `make test-slow`; tests/export/test_cells.py has all of them in every run.
_STAND_FOR_ALL = ("bert", "roberta", "modernbert", "deberta-v2")
EACH_FAMILY = in_turn(FAMILIES, _STAND_FOR_ALL)
# Where transformers has a reader of answers.
EACH_READER = [param for param in EACH_FAMILY if param.values[0] not in NO_READER]
POSITIONS = 64
# Of these, one checkpoint has a classifier, and beside it in folders the heads that read tokens. Of
# bert each is a checkpoint of its own in every run, of the others in `make test-slow`.
TOGETHER = ("roberta", "modernbert", "deberta-v2")
BESIDE = {"ForTokenClassification": "entities", "ForQuestionAnswering": "spans"}
# Prefixes of every kind, a label without one, and one whose prefix is not a prefix.
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC", "X-LOC")
# Every family, and between them every kind of classifier.
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "bert": {"labels": ("bad", "good")},
    "distilbert": {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"},
    "roberta": {"labels": ("score",), "problem_type": "regression"},
    "xlm-roberta": {"labels": ("toxic",)},
    "camembert": {"labels": ("x", "y", "z"), "problem_type": "single_label_classification"},
    "electra": {"labels": ("one", "two"), "problem_type": "multi_label_classification"},
    "albert": {"labels": ("width", "height"), "problem_type": "regression"},
    "mobilebert": {"labels": ("bad", "good")},
    "mpnet": {"labels": ("p", "q", "r"), "problem_type": "multi_label_classification"},
    # Its head reads the mean of a text's rows.
    "modernbert": {"labels": ("bad", "good"), "classifier_pooling": "mean"},
    "deberta-v2": {"labels": ("entailed", "neutral", "contradicted")},
    **{name: relative.classifier for name, relative in RELATIVES.items()},
}

_FOLLOW_PADDING = (
    *("roberta", "xlm-roberta", "camembert", "mpnet"),
    *(name for name, relative in RELATIVES.items() if relative.follows_padding),
)


def make_checkpoint(
    folder: Path, family: str, architecture: str, *, seed: int = 0, **config: Any
) -> Path:
    """Write a tiny checkpoint of that transformers class, with its tokenizer, and return `folder`.

    `config` goes to the family's own config class over the defaults here.
    """
    tokenizer = make_tokenizer(family)
    settings = make_config(family, tokenizer, **config)
    model = make_model(architecture, settings, seed=seed)
    model.save_pretrained(folder)
    start = settings.pad_token_id + 1 if family in _FOLLOW_PADDING else 0
    tokenizer.model_max_length = settings.max_position_embeddings - start
    tokenizer.save_pretrained(folder)
    return folder


def make_family(folder: Path, family: str) -> Path:
    """Write a tiny classifier of the family, with heads that read tokens, and return `folder`."""
    classifier = name_class(family, "ForSequenceClassification")
    make_checkpoint(folder, family, classifier, **CLASSIFIERS[family])
    for seed, (ending, name) in enumerate(BESIDE.items(), start=1):
        labels: dict[str, Any] = {}
        if ending == "ForTokenClassification":
            labels["labels"] = ENTITIES
        add_head(folder, name, name_class(family, ending), seed=seed, **labels)
    return folder


def add_head(
    folder: Path, name: str, architecture: str, *, seed: int = 0, pooler: bool = True, **config: Any
) -> Path:
    """Write a head under `heads/<name>/` of a checkpoint: its config and its own weights alone.

    Without `pooler` the head shares the one of the checkpoint.
    """
    trunk = json.loads((folder / "config.json").read_text())
    family = trunk["model_type"]
    for key in ("model_type", "architectures", "id2label", "label2id", "problem_type", "dtype"):
        trunk.pop(key, None)
    settings = AutoConfig.for_model(family, **trunk | _number_labels(config))
    settings.architectures = [architecture]
    model = make_model(architecture, settings, seed=seed)
    prefix = f"{model.base_model_prefix}."
    own = {
        key: value.contiguous().clone()
        for key, value in model.state_dict().items()
        if not key.startswith(prefix) or (pooler and key.startswith(prefix + "pooler"))
    }
    head = folder / "heads" / name
    head.mkdir(parents=True)
    settings.save_pretrained(head)
    save_file(own, head / "model.safetensors", metadata={"format": "pt"})
    return head


def make_model(architecture: str, config: PretrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """The model with random weights, biases and norms included: none of them can be lost unseen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, architecture)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def make_config(family: str, tokenizer: PreTrainedTokenizerFast, **config: Any) -> PretrainedConfig:
    """The config of a model of 2 layers of 32, with the ids of the tokenizer."""
    follow = family in _FOLLOW_PADDING
    common: dict[str, Any] = {
        # As in many real ones, the vocabulary is rounded up: the last rows have no token.
        "vocab_size": (len(tokenizer) // 8 + 1) * 8,
        "max_position_embeddings": POSITIONS + (tokenizer.pad_token_id + 1 if follow else 0),
        "initializer_range": 0.25,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    size: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "type_vocab_size": 1 if follow else 2,
    }
    match family:
        case "distilbert":
            size = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
        case "electra":
            # As in electra-small, narrower than the trunk and projected up.
            size["embedding_size"] = 16
        case "albert":
            size["embedding_size"] = 16
            size["classifier_dropout_prob"] = 0.1
        case "mobilebert":
            size |= {"embedding_size": 16, "intra_bottleneck_size": 16}
            size["num_feedforward_networks"] = 2
        case "mpnet":
            del size["type_vocab_size"]
        case "modernbert":
            del size["type_vocab_size"]
            # A layer of each kind, and texts longer than the window.
            size |= {"global_attn_every_n_layers": 2, "local_attention": 10}
            common |= {"cls_token_id": tokenizer.cls_token_id}
            common |= {"sep_token_id": tokenizer.sep_token_id}
        case "deberta-v2":
            # As in DeBERTa-v3: relative positions alone, in fewer buckets than there are.
            size |= {
                "type_vocab_size": 0,
                "relative_attention": True,
                "position_biased_input": False,
                "position_buckets": 8,
                "max_relative_positions": POSITIONS,
                "share_att_key": True,
                "norm_rel_ebd": "layer_norm",
                "pos_att_type": "p2c|c2p",
            }
        case _ if family in RELATIVES:
            size |= RELATIVES[family].config
            size = {key: value for key, value in size.items() if value is not None}
    return AutoConfig.for_model(family, **common | size | _number_labels(config))


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:  # noqa: PLR0911 - one a kind
    """A fast tokenizer of the class that transformers has for the family."""
    kind = RELATIVES[family].tokenizer if family in RELATIVES else family
    match kind:
        case "bert" | "electra" | "mobilebert":
            return transformers.BertTokenizer(vocab=_list_wordpieces())
        case "distilbert":
            return transformers.DistilBertTokenizer(vocab=_list_wordpieces())
        case "roberta":
            vocabulary, merges = _list_merges(["<s>", "<pad>", "</s>", "<unk>"], "<mask>")
            mask = AddedToken("<mask>", lstrip=True, special=True)
            return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges, mask_token=mask)
        case "xlm-roberta":
            pieces = _list_pieces(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
            mask = AddedToken("<mask>", lstrip=True, special=True)
            return transformers.XLMRobertaTokenizer(vocab=pieces, mask_token=mask)
        case "camembert":
            special = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
            return transformers.CamembertTokenizer(vocab=_list_pieces(special, ["<mask>"]))
        case "albert":
            pieces = _list_pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], [])
            mask = AddedToken("[MASK]", lstrip=True, special=True)
            return transformers.AlbertTokenizer(vocab=pieces, mask_token=mask)
        case "mpnet":
            special = ["<s>", "<pad>", "</s>", "[UNK]"]
            words = [token for token in _list_wordpieces() if not token.startswith("[")]
            return transformers.MPNetTokenizer(vocab=_number([*special, *words, "<mask>"]))
        case "modernbert":
            return _make_byte_level_tokenizer()
        case "deberta-v2":
            pieces = _list_pieces(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], ["[MASK]"])
            return transformers.DebertaV2Tokenizer(vocab=pieces)
    return _make_later_tokenizer(kind)


def _make_later_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    match kind:
        case "deberta":
            vocabulary, merges = _list_merges(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[MASK]")
            return transformers.DebertaTokenizer(vocab=vocabulary, merges=merges)
        case "rembert":
            pieces = _list_pieces(["<pad>", "[CLS]", "<unk>", "[SEP]", "[MASK]"], [])
            return transformers.RemBertTokenizer(vocab=pieces)
        case "big_bird":
            special = ["<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
            return transformers.BigBirdTokenizer(vocab=_list_pieces(special, []))
    raise ValueError(kind)


def name_class(family: str, ending: str) -> str:
    """The name of transformers' class of that family: `("roberta", "Model")` is RobertaModel."""
    if family in RELATIVES:
        return RELATIVES[family].stem + ending
    start = {
        "bert": "Bert",
        "distilbert": "DistilBert",
        "roberta": "Roberta",
        "xlm-roberta": "XLMRoberta",
        "camembert": "Camembert",
        "electra": "Electra",
        "albert": "Albert",
        "mobilebert": "MobileBert",
        "mpnet": "MPNet",
        "modernbert": "ModernBert",
        "deberta-v2": "DebertaV2",
    }[family]
    return start + ending


def has_class(family: str, ending: str) -> bool:
    """Whether transformers has that class of the family, and a bundle can answer as it does."""
    name = name_class(family, ending)
    # Its head looks for the end of the question, which is no row by itself.
    return hasattr(transformers, name) and name != "BigBirdForQuestionAnswering"


def write_json(file: Path, content: Any) -> Path:
    """Write a JSON file, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def change_json(file: Path, **changes: Any) -> Path:
    """Set some keys of a JSON file; a value of None takes its key away."""
    content = json.loads(file.read_text()) | changes
    return write_json(file, {key: value for key, value in content.items() if value is not None})


def _number_labels(config: dict[str, Any]) -> dict[str, Any]:
    """The config with `labels=[...]` written as transformers wants it."""
    labels: Sequence[str] | None = config.get("labels")
    if labels is None:
        return config
    rest = {key: value for key, value in config.items() if key != "labels"}
    return rest | {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def _make_byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """As ModernBERT's: a byte-level BPE with the special tokens of BERT, and no segments."""
    vocabulary, merges = _list_merges(["[UNK]", "[CLS]", "[SEP]", "[PAD]"], "[MASK]")
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token=AddedToken("[MASK]", lstrip=True, special=True),
        model_input_names=["input_ids", "attention_mask"],
    )


def _list_wordpieces() -> dict[str, int]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    continued = [f"##{piece}" for piece in (*CHARACTERS, *SYLLABLES)]
    return _number([*special, *CHARACTERS, *WORDS, *continued])


def _list_merges(first: Sequence[str], mask: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    # Words after a space grow from the left, so each is one token; syllables come after them.
    merges: dict[tuple[str, str], None] = {}
    for written in (*(f"Ġ{word}" for word in WORDS), *SYLLABLES):
        for end in range(1, len(written)):
            merges[written[:end], written[end]] = None
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(left + right for left, right in merges)]
    return _number([*first, *tokens, mask]), list(merges)


def _list_pieces(first: Sequence[str], last: Sequence[str]) -> list[tuple[str, float]]:
    scores = dict.fromkeys(first, 0.0)
    pieces = ["▁", *CHARACTERS, *SYLLABLES, *(f"▁{word}" for word in WORDS), *WORDS]
    for place, piece in enumerate(dict.fromkeys(pieces)):
        # A longer piece is likelier than its parts; no two are equally likely.
        scores.setdefault(piece, -10.0 + 0.5 * len(piece) - place / 10_000)
    return list(scores.items()) + [(token, 0.0) for token in last]


def _number(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
