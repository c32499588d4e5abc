"""A ColBERT gives the vectors of sentence-transformers' MultiVectorEncoder, token by token."""

import json
import string
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from export.writing.verify import verify_against, verify_golden
from models import Pipeline
from models.errors import EmptyInput, InputTooLong, InvalidValue, TaskUnsupported
from tests.helpers.checkpoints import change_json, write_json
from tests.helpers.fixtures import Export

TEXTS = ["the king, of france!", "a", "it is cold in paris, and the sea is far.", "fox , " * 40]
TOKENS = "token_embeddings"


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(source: Path, folder: Path, mask: MultiVectorMask, **options: Any) -> Path:
    """A tiny ColBERT as the library saves it."""
    prompts = options.pop("prompts", {"query": "find the king: ", "document": "it is "})
    default = options.pop("default_prompt_name", None)
    encoder = Transformer(str(source), **options)
    torch.manual_seed(5)
    dense = Dense(
        32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name=TOKENS
    )
    modules = [encoder, dense, mask, Normalize(module_input_name=TOKENS)]
    model = MultiVectorEncoder(
        modules=modules, device="cpu", prompts=prompts, default_prompt_name=default
    )
    model.save(str(folder), create_model_card=False)
    return folder


def check_same(source: Path, pipeline: Pipeline) -> None:
    """Queries and documents, together and alone."""
    model = MultiVectorEncoder(str(source), device="cpu")
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = encode(TEXTS, convert_to_numpy=True)
        options: dict[str, Any] = {"role": role, "overflow": "truncate"}
        alone = [pipeline.embed_tokens([text], **options)[0] for text in TEXTS]
        for found in (pipeline.embed_tokens(TEXTS, **options), alone):
            assert [len(rows) for rows in found] == [len(rows) for rows in wanted]
            for rows, others in zip(found, wanted, strict=True):
                np.testing.assert_allclose(rows, others, atol=1e-5)


def check(source: Path, bundle: Path) -> Pipeline:
    result = export_bundle(ExportRequest(str(source), bundle))
    assert result.bundle.manifest.format_version == 2
    entry = result.bundle.manifest.heads[0]
    assert (entry.task, entry.name, entry.representation) == ("embed", "tokens", "tokens")
    pipeline = Pipeline(result.bundle)
    check_same(source, pipeline)
    assert len(verify_golden(pipeline)) == len(result.bundle.manifest.heads)
    assert verify_against(pipeline, str(source))
    return pipeline


FIXED = {"strategy": "fixed", "length": 24, "attend": False}


@pytest.mark.parametrize(
    ("family", "options", "mask"),
    [
        ("bert", {"query_expansion": FIXED, "document_length": 40}, list(string.punctuation)),
        ("bert", {"query_expansion": FIXED | {"attend": True}}, [",", "the"]),
        pytest.param(
            "bert",
            {"query_expansion": FIXED | {"strategy": "min", "length": 9}},
            None,
            marks=pytest.mark.slow,
        ),
        ("bert", {"query_length": 12, "document_length": 20}, [","]),
        ("modernbert", {"query_expansion": FIXED | {"attend": True}}, [","]),
        pytest.param(
            "roberta",
            {"query_expansion": FIXED | {"token": "<unk>"}},
            [","],
            marks=pytest.mark.slow,
        ),
        ("deberta-v2", {"query_expansion": FIXED | {"attend": True}}, [","]),
    ],
    ids=str,
)
def test_as_sentence_transformers_saves_it(
    exported: Export, tmp_path: Path, family: str, options: dict[str, Any], mask: Any
) -> None:
    original = exported(family, "Model").source
    source = save(original, tmp_path / "saved", MultiVectorMask(mask), **options)
    check(source, tmp_path / "bundle")


def test_punctuation_may_be_left_out_of_queries_too(exported: Export, tmp_path: Path) -> None:
    mask = MultiVectorMask([",", "!", "."], skiplist_tasks=["query", "document"])
    source = save(exported("bert", "Model").source, tmp_path / "saved", mask, query_expansion=FIXED)
    check(source, tmp_path / "bundle")


@pytest.mark.parametrize(
    "tasks",
    [[], pytest.param("query", marks=pytest.mark.slow), ["passage", "query"]],
    ids=str,
)
def test_punctuation_is_left_out_of_what_the_mask_names_alone(
    exported: Export, tmp_path: Path, tasks: Any
) -> None:
    source = save(
        exported("bert", "Model").source,
        tmp_path / "saved",
        MultiVectorMask([",", "!", "."], skiplist_tasks=tasks),
    )
    check(source, tmp_path / "bundle")
    noted = any("skiplist_tasks names 'passage'" in n for n in load_checkpoint(str(source)).notes)
    assert noted == ("passage" in tasks)


@pytest.mark.slow
def test_a_default_prompt_goes_before_what_is_neither_query_nor_document(
    exported: Export, tmp_path: Path
) -> None:
    source = save(
        exported("bert", "Model").source,
        tmp_path / "saved",
        MultiVectorMask(),
        prompts={"general": "find the king: "},
        default_prompt_name="general",
    )
    pipeline = check(source, tmp_path / "bundle")
    wanted = MultiVectorEncoder(str(source), device="cpu").encode(TEXTS, convert_to_numpy=True)
    found = pipeline.embed_tokens(TEXTS, role=None, overflow="truncate")
    for rows, others in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, others, atol=1e-5)
    # Also where no prompt is named like the role.
    change_json(source / CONFIG, prompts={"general": "find the king: "})
    check_same(source, Pipeline(export_bundle(ExportRequest(str(source), tmp_path / "b")).bundle))


CONFIG = "config_sentence_transformers.json"


@pytest.mark.slow
def test_lengths_above_the_models(exported: Export, tmp_path: Path) -> None:
    mask, original = MultiVectorMask(), exported("bert", "Model").source
    source = save(original, tmp_path / "saved", mask, document_length=10**30, query_length=99)
    notes = load_checkpoint(str(source)).notes
    assert [note.split(" is above the 64 tokens")[0] for note in notes] == [
        "query_length 99",
        f"document_length {10**30}",
    ]
    export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
    source = save(original, tmp_path / "filled", mask, query_expansion=FIXED | {"length": 65})
    with pytest.raises(UnsupportedModel, match="fills queries up to 65 tokens"):
        load_checkpoint(str(source))


def test_as_pylate_saves_it(exported: Export, tmp_path: Path) -> None:
    source = save(exported("bert", "Model").source, tmp_path / "saved", MultiVectorMask())
    modules = json.loads((source / "modules.json").read_text())[:2]
    modules[1]["type"] = "pylate.models.Dense.Dense"
    write_json(source / "modules.json", modules)
    config = json.loads((source / "1_Dense" / "config.json").read_text())
    for key in ("module_input_name", "module_output_name"):
        config.pop(key, None)
    write_json(source / "1_Dense" / "config.json", config)
    write_json(source / "sentence_bert_config.json", {"max_seq_length": 64})
    said = {
        "model_type": "ColBERT",
        "query_prefix": "the ",
        "document_prefix": "[D] ",
        "query_length": 20,
        "document_length": 30,
        "attend_to_expansion_tokens": False,
        "similarity_fn_name": "MaxSim",
    }
    write_json(source / "config_sentence_transformers.json", said)
    check(source, tmp_path / "bundle")


@pytest.mark.parametrize("said", [None, {"query_maxlen": 16, "doc_maxlen": 30}], ids=str)
def test_as_stanford_saves_it(exported: Export, tmp_path: Path, said: Any) -> None:
    original = exported("bert", "Model").source
    source = tmp_path / "source"
    source.mkdir()
    for file in original.iterdir():
        if file.suffix != ".safetensors":
            (source / file.name).write_bytes(file.read_bytes())
    weights = {f"bert.{name}": value for name, value in load_file(original / WEIGHTS).items()}
    torch.manual_seed(6)
    weights["linear.weight"] = torch.randn(8, 32)
    save_file(weights, source / WEIGHTS, metadata={"format": "pt"})
    change_json(source / "config.json", architectures=["HF_ColBERT"])
    if said is not None:
        # Markers of the tiny vocabulary, which are words there.
        markers = {"query_token_id": "king", "doc_token_id": "france"}
        write_json(source / "artifact.metadata", said | markers | {"attend_to_mask_tokens": False})
    pipeline = check(source, tmp_path / "bundle")
    assert pipeline.manifest.tasks == ("embed",)
    for key in ("query_token_id", "doc_maxlen"):
        write_json(source / "artifact.metadata", {key: [1]})
        with pytest.raises(SourceError, match=rf"artifact\.metadata has {key} \[1\], which is"):
            load_checkpoint(str(source))


WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def colbert(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("colbert")
    source = exported("bert", "Model").source
    save(source, folder / "saved", MultiVectorMask([","]), query_expansion=FIXED)
    return Pipeline(export_bundle(ExportRequest(str(folder / "saved"), folder / "bundle")).bundle)


def test_requests(colbert: Pipeline) -> None:
    (plain,) = colbert.embed_tokens(["the king, of france"], role=None)
    assert plain.shape == (7, 16)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-6)
    (query,) = colbert.embed_tokens(["the king"], role="query", prompt="")
    assert query.shape == (24, 16)
    # The words are as if nothing were behind them.
    (words,) = colbert.embed_tokens(["the king"], role=None)
    np.testing.assert_allclose(query[: len(words)], words, atol=1e-5)
    assert colbert.embed_tokens([]) == []
    with pytest.raises(EmptyInput):
        colbert.embed_tokens([""], role="query")
    with pytest.raises(InputTooLong, match="maximum context length is 24 tokens"):
        colbert.embed_tokens(["fox " * 40], role="query")
    with pytest.raises(InvalidValue, match="neither query nor document"):
        colbert.embed_tokens(["a"], role="passage")  # type: ignore[arg-type]
    with pytest.raises(TaskUnsupported, match="gives no dense vectors; it gives tokens"):
        colbert.embed(["a"])


@pytest.mark.parametrize(
    ("file", "changes", "kind", "sentence"),
    [
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [1]}, UnsupportedModel, "keep"),
        ("2_MultiVectorMask/config.json", {"skiplist_words": "ab"}, SourceError, "'ab', .* a list"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": 5}, SourceError, "5, which is not a"),
        ("sentence_bert_config.json", {"query_length": "x"}, SourceError, "query_length 'x'"),
        (
            "sentence_bert_config.json",
            {"query_expansion": FIXED | {"token": 5}},
            SourceError,
            r"query_expansion\.token 5, which is not a text",
        ),
        ("config_sentence_transformers.json", {"query_prefix": []}, SourceError, "query_prefix"),
        ("2_MultiVectorMask/config.json", {"colour": 1}, UnsupportedModel, "has colour"),
        ("sentence_bert_config.json", {"query_expansion": 3}, SourceError, "not an object"),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "x"}},
            SourceError,
            "no str",
        ),
        ("1_Dense/config.json", {"module_input_name": "x"}, UnsupportedModel, "module_input_name"),
    ],
)
def test_what_is_refused(  # noqa: PLR0917 - fixtures
    exported: Export,
    tmp_path: Path,
    file: str,
    changes: dict[str, Any],
    kind: type[ExportError],
    sentence: str,
) -> None:
    source = save(exported("bert", "Model").source, tmp_path / "saved", MultiVectorMask([","]))
    assert load_checkpoint(str(source)).tasks == ("embed",)
    change_json(source / file, **changes)
    with pytest.raises(kind, match=sentence):
        load_checkpoint(str(source))


@pytest.mark.parametrize("family", ["deberta-v2", "mobilebert", "modernbert"])
def test_words_that_do_not_see_what_fills_a_query_are_for_attention_alone(
    exported: Export, tmp_path: Path, family: str
) -> None:
    """Where a token sees its neighbours otherwise, or them alone, what it sees is not the same."""
    source = save(
        exported(family, "Model").source,
        tmp_path / "saved",
        MultiVectorMask(),
        query_expansion=FIXED,
    )
    with pytest.raises(UnsupportedModel, match="attend false"):
        export_bundle(ExportRequest(str(source), tmp_path / "bundle"))
