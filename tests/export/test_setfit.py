"""A SetFit checkpoint classifies as SetFit does: logistic regression on its own vectors."""

import json
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

from export.errors import ProofFailed, SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models import Pipeline
from models.heads import ClassifyHead
from tests.helpers.checkpoints import write_json
from tests.helpers.fixtures import Export

TEXTS = ["the king of france", "a", "it is cold in paris, and the sea is far", "a red house", "fox"]
LABELS = ["calm", "glad", "sad"]
ROOT = Path(__file__).parents[2]
CHECKPOINTS = ROOT / "docs" / "checkpoints.md"
Save = Callable[..., tuple[Path, Any]]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def save(exported: Export, tmp_path: Path) -> Save:
    """Saves a tiny body as SetFit does; gives its folder and the library's vectors of the texts."""

    def save_body(*modules: Any, normalize: bool = False, **options: Any) -> tuple[Path, Any]:
        encoder = Transformer(str(exported("bert", "Model").source))
        parts = [encoder, *(modules or [Pooling(32, "mean")])]
        model = SentenceTransformer(modules=parts, device="cpu", **options)
        folder = tmp_path / "setfit"
        model.save(str(folder), create_model_card=False)
        write_json(folder / "config_setfit.json", {"normalize_embeddings": normalize})
        return folder, model.encode(TEXTS, normalize_embeddings=normalize)

    return save_body


def fit(vectors: Any, classes: list[Any]) -> LogisticRegression:
    return LogisticRegression(C=100.0).fit(vectors, classes)


def write_copy(folder: Path, head: LogisticRegression, kind: str = "json", **more: Any) -> None:
    if kind == "json":
        lists = {"coef": head.coef_.tolist(), "intercept": head.intercept_.tolist()}
        write_json(folder / "model_head.json", lists | {"classes": head.classes_.tolist()} | more)
    else:
        # It writes the bytes as they lie, and scikit-learn's lie by columns.
        tensors = {"coef_": np.ascontiguousarray(head.coef_), "intercept_": head.intercept_}
        said = {"classes": json.dumps(head.classes_.tolist())}
        save_file(tensors, folder / "model_head.safetensors", metadata=said)


def check_scores(folder: Path, wanted: Any, names: list[str]) -> None:
    result = export_bundle(ExportRequest(str(folder), folder.parent / "bundle"))
    assert set(result.bundle.manifest.tasks) == {"embed", "classify"}
    pipeline = Pipeline(result.bundle)
    for scores, labels in zip(wanted, pipeline.classify(TEXTS), strict=True):
        found = {label.label: label.score for label in labels}
        assert set(found) == set(names)
        np.testing.assert_allclose([found[name] for name in names], scores, atol=1e-5)


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_three_classes(save: Save, kind: str) -> None:
    folder, vectors = save()
    head = fit(vectors, [0, 1, 2, 1, 0])
    write_copy(folder, head, kind)
    write_json(folder / "config_setfit.json", {"labels": LABELS, "normalize_embeddings": False})
    check_scores(folder, head.predict_proba(vectors), LABELS)


@pytest.mark.slow
def test_two_classes_on_what_modules_make_of_it(save: Save) -> None:
    folder, vectors = save(Pooling(32, "weightedmean"), Dense(32, 12), Normalize(), normalize=True)
    head = fit(vectors, ["no", "yes", "no", "yes", "no"])
    write_copy(folder, head)
    check_scores(folder, head.predict_proba(vectors), ["no", "yes"])


@pytest.mark.slow
def test_a_default_prompt_and_dimensions_go_for_it_too(save: Save) -> None:
    prompts = {"query": "find the king: "}
    folder, vectors = save(
        Pooling(32, "mean"),
        normalize=True,
        prompts=prompts,
        default_prompt_name="query",
        truncate_dim=8,
    )
    head = fit(vectors, [0, 1, 0, 1, 0])
    write_copy(folder, head)
    check_scores(folder, head.predict_proba(vectors), ["0", "1"])


@pytest.mark.parametrize(
    "pooling",
    [
        "mean",
        pytest.param("cls", marks=pytest.mark.slow),
        pytest.param("weightedmean", marks=pytest.mark.slow),
    ],
)
def test_a_prompt_that_is_not_pooled(save: Save, pooling: str) -> None:
    folder, vectors = save(
        Pooling(32, pooling, include_prompt=False),
        prompts={"query": "find the king: ", "blank": " "},
        default_prompt_name="query",
    )
    head = fit(vectors, [0, 1, 2, 1, 0])
    write_copy(folder, head)
    check_scores(folder, head.predict_proba(vectors), ["0", "1", "2"])


def test_the_proof_asks_with_prompts(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that pooled the rows of a prompt would answer every request otherwise."""
    folder, vectors = save(
        Pooling(32, "mean", include_prompt=False), prompts={"query": "find the king: "}
    )
    write_copy(folder, fit(vectors, [0, 1, 2, 1, 0]))
    monkeypatch.setattr(ClassifyHead, "list_pooled", lambda *_: None)
    with pytest.raises(ProofFailed, match="classify differs"):
        export_bundle(ExportRequest(str(folder), folder.parent / "bundle"))


MARKS = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0]])


def convert(folder: Path, head: Any) -> None:
    """Save the head as SetFit does, and run the line that the export's note gives."""
    joblib.dump(head, folder / "model_head.pkl")
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.tasks == ("embed",)
    [note] = checkpoint.notes
    assert "model_head.pkl is a pickle and is not opened" in note
    line = note[note.index("python -c") :]
    assert line in CHECKPOINTS.read_text().splitlines()
    run = [sys.executable, *shlex.split(line)[1:]]
    subprocess.run(run, cwd=folder, check=True)


@pytest.mark.slow
def test_one_label_of_several_by_the_line_that_is_printed(save: Save) -> None:
    folder, vectors = save()
    head = fit(vectors, [0, 1, 2, 1, 0])
    convert(folder, head)
    write_json(folder / "config_setfit.json", {"labels": LABELS})
    check_scores(folder, head.predict_proba(vectors), LABELS)


@pytest.mark.parametrize(
    "kind", [OneVsRestClassifier, pytest.param(MultiOutputClassifier, marks=pytest.mark.slow)]
)
def test_several_labels_by_the_line_that_is_printed(save: Save, kind: Any) -> None:
    folder, vectors = save()
    head = kind(LogisticRegression(C=100.0)).fit(vectors, MARKS)
    convert(folder, head)
    write_json(folder / "config_setfit.json", {"labels": LABELS})
    scores = head.predict_proba(vectors)
    if isinstance(scores, list):
        scores = np.stack([each[:, 1] for each in scores], axis=1)
    check_scores(folder, scores, LABELS)


@pytest.mark.parametrize(
    ("head", "targets", "sentence"),
    [
        (ClassifierChain(LogisticRegression()), MARKS, "a ClassifierChain for several labels"),
        (
            OneVsRestClassifier(LogisticRegression()),
            [0, 1, 2, 1, 0],
            "a OneVsRestClassifier for one label of several",
        ),
        (RidgeClassifier(), [0, 1, 2, 1, 0], "a RidgeClassifier for one label of several"),
    ],
)
def test_what_computes_with_more_than_its_coefficients_is_refused(
    save: Save, head: Any, targets: Any, sentence: str
) -> None:
    folder, vectors = save()
    convert(folder, head.fit(vectors, targets))
    with pytest.raises(UnsupportedModel, match=f"was made of {sentence}, which is not computed"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"coef": [[0.0] * 32]}, r"has coef \[1, 32\] and no intercept; wanted are coef \[classes"),
        ({"coef": [0.0] * 32, "intercept": [0.0]}, r"has coef \[32\] and intercept \[1\]; wanted"),
        (
            {"coef": [[[0.0] * 32]] * 3, "intercept": [[0.0]] * 3, "multi_label": True},
            r"has coef \[3, 1, 32\] and intercept \[3, 1\]; wanted are coef \[classes",
        ),
        (
            {"coef": [[0.0] * 31], "intercept": [0.0]},
            r"has coef \[1, 31\] and intercept \[1\], and the vectors have 32 dimensions; wanted",
        ),
        (
            {"coef": [[0.0] * 32] * 3, "intercept": [0.0]},
            r"coef \[3, 32\] and intercept \[1\], and",
        ),
        ({"coef": [["x"] * 32], "intercept": [0.0]}, "cannot be read.*wanted are coef"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": 2}, "not a list"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": [0, 1, 2]}, "has 3 classes"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": [0, 7]}, "do not name"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": [-1, 1]}, "do not name"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": [[], []]}, "neither text nor"),
        ({"coef": [[0.0] * 32], "intercept": [0.0], "classes": [1, 1]}, "labels .* 'glad'"),
        ({"coef": [[0.0] * 32] * 3, "intercept": [0.0] * 3, "classes": list("xyx")}, "0 and class"),
        ({"coef": [[1e400] * 32], "intercept": [0.0]}, "not all numbers|cannot be read"),
        ({"coef": [[10**400] * 32], "intercept": [0.0]}, "cannot be read"),
    ],
)
def test_copies_that_are_damaged(save: Save, content: dict[str, Any], sentence: str) -> None:
    folder, _ = save()
    write_json(folder / "config_setfit.json", {"labels": LABELS})
    (folder / "model_head.json").write_text(json.dumps(content))
    with pytest.raises(SourceError, match=sentence):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"labels": ["a", "a", "b"]}, "labels that call both class 0 and class 1 'a'"),
        ({"labels": {"0": "a"}}, "which is not a list"),
        ({"labels": ["a", None, "b"]}, r"labels\.1 None, which is not a text or a whole number"),
        ({"normalize_embeddings": "no"}, "normalize_embeddings 'no', which is not true or false"),
    ],
)
def test_settings_that_are_damaged(save: Save, settings: dict[str, Any], sentence: str) -> None:
    folder, vectors = save()
    write_copy(folder, fit(vectors, [0, 1, 2, 1, 0]))
    write_json(folder / "config_setfit.json", settings)
    with pytest.raises(SourceError, match=sentence):
        load_checkpoint(str(folder))


def test_classes_that_are_named_alike(save: Save) -> None:
    folder, vectors = save()
    write_copy(folder, fit(vectors, [0, 1, 2, 1, 0]), classes=["x", "x", "y"])
    with pytest.raises(SourceError, match=r"model_head\.json has classes that call both class 0"):
        load_checkpoint(str(folder))


def test_beside_a_classifier_of_its_own(save: Save, classify_source: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(classify_source, tmp_path / "source"))
    _, vectors = save()
    write_copy(source, fit(vectors, [0, 1, 2, 1, 0]))
    with pytest.raises(UnsupportedModel, match="two classifiers, that of BertForSequenceClass"):
        load_checkpoint(str(source))


def test_more_dimensions_than_there_are(save: Save) -> None:
    folder, vectors = save(truncate_dim=99)
    head = fit(vectors, [0, 1, 2, 1, 0])
    write_copy(folder, head)
    check_scores(folder, head.predict_proba(vectors), ["0", "1", "2"])


def test_several_poolings_are_refused(save: Save) -> None:
    folder, vectors = save(Pooling(32, ("mean", "cls")))
    write_copy(folder, fit(vectors, [0, 1, 2, 1, 0]))
    with pytest.raises(UnsupportedModel, match="several poolings"):
        load_checkpoint(str(folder))
