"""One world of synthetic text, and the runs over it that many tests look at, each made once."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transformers
from tokenizers import Tokenizer

from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from tests.training.data import write_data
from tests.training.runs import FINETUNE_STEPS, finetune, pretrain
from training.text.documents import find_files, read_documents
from training.text.store import TokenStore, tokenize_documents
from training.text.vocabulary import read_vocabulary, save_vocabulary, train_vocabulary

if TYPE_CHECKING:
    # Its assertions are rewritten only if it is imported as a plugin first.
    from tests.helpers.fixtures import MakeFolder

VOCABULARY_SIZE = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for the bundle of a run that ended takes its turn in `make test-slow`."""
    for item in items:
        if {"bundle", "finetuned"} & set(getattr(item, "fixturenames", ())) and (
            Path(__file__).parent in item.path.parents
        ):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data(make_folder: "MakeFolder") -> Path:
    """The folder of training data."""
    return write_data(make_folder("data"))


@pytest.fixture(scope="session")
def documents(data: Path) -> list[list[str]]:
    """The documents of the corpus."""
    files = find_files(data, ("wiki/train-*.jsonl.xz", "books/train-*.jsonl.xz"))
    return [document for file in files for document in read_documents(file)]


@pytest.fixture(scope="session")
def vocabulary(documents: list[list[str]], make_folder: "MakeFolder") -> Path:
    """A tokenizer.json, learnt once: a second learning may break ties in another way."""
    texts = (paragraph for document in documents for paragraph in document)
    path = make_folder("vocabulary") / "tokenizer.json"
    save_vocabulary(train_vocabulary(texts, VOCABULARY_SIZE), path)
    return path


@pytest.fixture(scope="session")
def tokenizer(vocabulary: Path) -> Tokenizer:
    """The same, read."""
    return read_vocabulary(vocabulary)


@pytest.fixture(scope="session")
def store(documents: list[list[str]], tokenizer: Tokenizer) -> TokenStore:
    """The corpus as tokens."""
    return tokenize_documents(documents, tokenizer)


@pytest.fixture(scope="session")
def pretrained(data: Path, vocabulary: Path, make_folder: "MakeFolder") -> Path:
    """A pretrain run that ended."""
    return pretrain(data, make_folder("pretrained") / "run", vocabulary)


@pytest.fixture(scope="session")
def finetuned(data: Path, pretrained: Path, make_folder: "MakeFolder") -> Path:
    """A finetune run that ended, on top of the pretrain run."""
    return finetune(data, pretrained, make_folder("finetuned") / "run", steps=FINETUNE_STEPS)


@pytest.fixture(scope="session")
def bundle(finetuned: Path, make_folder: "MakeFolder") -> Path:
    """The bundle of the finetune run's checkpoint."""
    out = make_folder("bundle") / "tiny"
    return export_bundle(ExportRequest(source=str(finetuned / "checkpoint"), out=out)).bundle.path


@pytest.fixture
def tiny_config(tokenizer: Tokenizer) -> transformers.BertConfig:
    """The config of a model that computes in no time, without dropout."""
    return transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
