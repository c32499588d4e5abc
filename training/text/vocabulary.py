"""Trains a WordPiece vocabulary of our own, with the special tokens every BERT has.

Lower-cased and without accents, as BERT's uncased vocabularies are.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import decoders as wordpiece_decoders

from training.errors import DataDamaged, DataMissing

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
_ALPHABET = 200  # characters that get a piece of their own; rarer ones are [UNK]


def train_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """A WordPiece tokenizer of at most `size` tokens, special ones first, learnt from texts.

    It frames one text as [CLS] A [SEP] and two as [CLS] A [SEP] B [SEP] (Devlin et al. 2018).
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a token, no secret
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = wordpiece_decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        limit_alphabet=_ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


def read_vocabulary(path: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json. Raises DataMissing or DataDamaged.

    Its special tokens must stand where ours do.
    """
    if not path.is_file():
        raise DataMissing(f"{path}: no such file. Give a tokenizer.json with --vocabulary.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as damage:  # tokenizers raises no class of its own
        raise DataDamaged(f"{path} is not a tokenizer.json ({damage}).") from damage
    if [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(5)):
        raise DataDamaged(f"{path} does not begin with {', '.join(SPECIAL_TOKENS)}.")
    return tokenizer


def save_vocabulary(tokenizer: Tokenizer, path: Path) -> None:
    """Writes tokenizer.json, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(handle)
    tokenizer.save(temporary)
    Path(temporary).replace(path)
