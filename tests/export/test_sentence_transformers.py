"""Checkpoints as sentence-transformers saves them answer as sentence-transformers does."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from export.__main__ import main
from export.errors import ProofFailed, SourceError
from export.reading.checkpoint import load_checkpoint
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest, Result
from models import Pipeline
from models.bundle.bundle import Bundle
from models.errors import EmptyInput, InputTooLong, InvalidValue
from models.heads import EmbedHead
from tests.helpers.checkpoints import change_json, in_turn, write_json
from tests.helpers.fixtures import Export, TakeGraphs

TEXTS = [
    "the king of france",
    "a",
    "it is cold in paris, and the sea is far",
    "a red house The King",
    "fox " * 80,
]
WIDTH = 32
MODES = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

Save = Callable[..., Path]
ExportIt = Callable[[Path], Result]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def save(exported: Export, tmp_path: Path) -> Save:
    """Saves a SentenceTransformer of the tiny BERT and these modules, as the library does."""

    def save_modules(*modules: torch.nn.Module, **options: Any) -> Path:
        torch.manual_seed(7)
        encoder = Transformer(str(exported("bert", "Model").source))
        model = SentenceTransformer(modules=[encoder, *modules], device="cpu", **options)
        model.save(str(tmp_path / "saved"), create_model_card=False)
        return tmp_path / "saved"

    return save_modules


@pytest.fixture
def export(exported: Export, take_graphs: TakeGraphs, tmp_path: Path) -> ExportIt:
    """Exports what was saved, with the graph of the tiny BERT, which it has unchanged."""
    take_graphs(exported("bert", "Model").bundle)
    return lambda source: export_bundle(ExportRequest(str(source), tmp_path / "bundle"))


def norm_with_weights() -> LayerNorm:
    torch.manual_seed(3)
    module = LayerNorm(WIDTH)
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    return module


def check_same(source: Path, bundle: Path, **encode: Any) -> None:
    """Compare all texts together and each alone, before any normalising that is the request's."""
    model = SentenceTransformer(str(source), device="cpu")
    wanted = model.encode(TEXTS, **encode)
    unit = isinstance(model[-1], Normalize) and model.truncate_dim is None
    options = {"overflow": "truncate", "normalize": unit}
    if "prompt_name" in encode:
        options["prompt"] = encode["prompt_name"]
    pipeline = Pipeline.open(bundle, threads=1)
    found = pipeline.embed(TEXTS, **options)
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * max(scale, 1))
    alone = [pipeline.embed([text], **options)[0] for text in TEXTS]
    np.testing.assert_allclose(alone, wanted, atol=1e-5 * max(scale, 1))


@pytest.mark.parametrize(
    "pooling",
    [*MODES, ("cls", "mean"), ("lasttoken", "weightedmean", "mean_sqrt_len_tokens")],
    ids=str,
)
def test_poolings(save: Save, export: ExportIt, pooling: Any) -> None:
    source = save(Pooling(WIDTH, pooling))
    (entry,) = export(source).bundle.manifest.heads
    named = pooling if isinstance(pooling, str) else "+".join(pooling)
    assert (entry.pooling, entry.pooling_source) == (named, "sentence-transformers")
    check_same(source, source.parent / "bundle")


@pytest.mark.parametrize(
    "modules",
    [
        lambda: [norm_with_weights()],
        lambda: [Dropout(0.5), norm_with_weights(), Normalize()],
        lambda: [Normalize(), norm_with_weights(), Dense(WIDTH, 12), Dropout(0.3), Normalize()],
        lambda: [Dropout(0.5), Normalize()],
    ],
)
def test_modules_after_pooling(
    save: Save, export: ExportIt, modules: Callable[[], list[torch.nn.Module]]
) -> None:
    source = save(Pooling(WIDTH, "mean"), *modules())
    export(source)
    check_same(source, source.parent / "bundle")


def test_modules_after_several_poolings(save: Save, export: ExportIt) -> None:
    source = save(Pooling(WIDTH, ("mean", "max")), Dense(2 * WIDTH, 16))
    (entry,) = export(source).bundle.manifest.heads
    assert (entry.pooling, entry.dimensions) == ("mean+max", 16)
    check_same(source, source.parent / "bundle")


def test_older_saves_have_a_folder_for_the_transformer(save: Save, export: ExportIt) -> None:
    source = save(Pooling(WIDTH, "cls"))
    inside = source / "0_Transformer"
    inside.mkdir()
    for file in [file for file in source.iterdir() if file.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            file.rename(inside / file.name)
    (source / "config.json").write_text('{"__version__": "0.4.1"}')
    listed = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": f"{PACKAGE}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{PACKAGE}.Pooling"},
    ]
    write_json(source / "modules.json", listed)
    assert export(source).bundle.manifest.heads[0].pooling == "cls"
    check_same(source, source.parent / "bundle")


PACKAGE = "sentence_transformers.models"


def test_dimensions_of_the_checkpoints_own(save: Save, export: ExportIt) -> None:
    source = save(Pooling(WIDTH, "mean"), truncate_dim=8)
    result = export(source)
    assert result.bundle.manifest.format_version == 2
    assert any("cut to 8 dimensions" in note for note in result.notes)
    check_same(source, source.parent / "bundle")
    pipeline = Pipeline(result.bundle)
    assert pipeline.embed(TEXTS, overflow="truncate", dimensions=20).shape == (5, 20)
    assert pipeline.embed([], pooling="cls").shape == (0, WIDTH)
    assert pipeline.embed([]).shape == (0, 8)


@pytest.mark.parametrize("modules", [[], [Dropout(0.1)], [Dense(WIDTH, 24), LayerNorm(24)]])
def test_what_is_normalised_before_it_is_cut(
    save: Save, export: ExportIt, modules: list[Any]
) -> None:
    """Encode's vectors are shorter than 1 then: those of `normalize` false, and not of true."""
    source = save(Pooling(WIDTH, "mean"), *modules, Normalize(), truncate_dim=8)
    result = export(source)
    assert any("ask for the same with normalize false" in note for note in result.notes)
    check_same(source, source.parent / "bundle")
    wanted = SentenceTransformer(str(source), device="cpu").encode(TEXTS)
    lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
    assert (lengths < 0.95).all()
    found = Pipeline(result.bundle).embed(TEXTS, overflow="truncate")
    np.testing.assert_allclose(found, wanted / lengths, atol=1e-5)


@pytest.mark.parametrize("size", [WIDTH, 2 * WIDTH, 10**30])
def test_more_dimensions_than_there_are(save: Save, export: ExportIt, size: int) -> None:
    source = save(Pooling(WIDTH, ("mean", "cls")), Dense(2 * WIDTH, WIDTH))
    change_json(source / "config_sentence_transformers.json", truncate_dim=size)
    result = export(source)
    noted = any(f"truncate_dim {size} is above the 32" in note for note in result.notes)
    assert noted == (size > WIDTH)
    check_same(source, source.parent / "bundle")


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "weightedmean", "lasttoken"])
def test_prompts(save: Save, export: ExportIt, *, pooling: str, include: bool) -> None:
    prompts = {"query": "find the king: ", "document": "it is ", "none": ""}
    source = save(Pooling(WIDTH, pooling, include_prompt=include), prompts=prompts)
    result = export(source)
    [note] = result.notes
    assert all(name in note for name in prompts)
    bundle = source.parent / "bundle"
    for name in prompts:
        check_same(source, bundle, prompt_name=name)
    check_same(source, bundle)
    model = SentenceTransformer(str(source), device="cpu")
    pipeline = Pipeline(result.bundle)
    options: dict[str, Any] = {"overflow": "truncate", "normalize": False}
    for encode, name in ((model.encode_query, "query"), (model.encode_document, "document")):
        found = pipeline.embed(TEXTS, prompt=name, **options)
        np.testing.assert_allclose(found, encode(TEXTS), atol=1e-5)
    with pytest.raises(InvalidValue, match="no prompt 'passage'; it has 'document'") as caught:
        pipeline.embed(TEXTS, prompt="passage")
    assert caught.value.param == "prompt_name"
    # A prompt makes no text of what is none, and token ids are taken as they are.
    with pytest.raises(EmptyInput):
        pipeline.embed(["a", ""], prompt="query")
    ids = [[2, 7, 9, 3]]
    np.testing.assert_array_equal(pipeline.embed(ids, prompt="query"), pipeline.embed(ids))


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("text", [" ", "\n"], ids=repr)
def test_a_prompt_without_tokens(save: Save, export: ExportIt, *, text: str, include: bool) -> None:
    source = save(
        Pooling(WIDTH, "mean", include_prompt=include),
        prompts={"blank": text},
        default_prompt_name="blank",
    )
    pipeline = Pipeline(export(source).bundle)
    check_same(source, source.parent / "bundle")
    with pytest.raises(EmptyInput):
        pipeline.embed([""])


@pytest.mark.parametrize("family", ["modernbert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("pooling", in_turn(["mean", "cls"], ("mean",)))
def test_a_prompt_whose_last_blank_is_a_token_by_itself(
    exported: Export, take_graphs: TakeGraphs, tmp_path: Path, family: str, pooling: str
) -> None:
    """Of byte-level BPE it is one with the word behind it, and is counted as if it were not."""
    original = exported(family, "Model")
    take_graphs(original.bundle)
    parts = [Transformer(str(original.source)), Pooling(WIDTH, pooling, include_prompt=False)]
    prompts = {"query": "find the king: ", "tight": "find the king:"}
    model = SentenceTransformer(modules=parts, device="cpu", prompts=prompts)
    model.save(str(tmp_path / "saved"), create_model_card=False)
    bundle = export_bundle(ExportRequest(str(tmp_path / "saved"), tmp_path / "bundle")).bundle
    pipeline = Pipeline(bundle)
    for name in prompts:
        check_same(tmp_path / "saved", tmp_path / "bundle", prompt_name=name)
        # A text that fits one window is that text.
        short = TEXTS[:4]
        wanted = model.encode(short, prompt_name=name)
        found = pipeline.embed_windows(short, prompt=name, normalize=False)
        np.testing.assert_allclose([each.vector for each in found], wanted, atol=1e-5)
    # Each window is a text behind the prompt: of a word that is one token, so none is divided.
    known = model.tokenizer.get_vocab()
    word = next(token[1:] for token in known if token[0] in "Ġ▁" and token[1:].isalpha())
    text = " ".join([word] * 150)
    [long] = pipeline.embed_windows([text], prompt="query", normalize=False)
    assert len(long.windows) > 1
    own = [text[each.start : each.end].strip() for each in long.windows]
    wanted = model.encode(own, prompt_name="query")
    np.testing.assert_allclose([each.vector for each in long.windows], wanted, atol=1e-5)


def test_the_proof_asks_with_prompts(
    save: Save, export: ExportIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(
        Pooling(WIDTH, "mean", include_prompt=False), prompts={"query": "find the king: "}
    )
    monkeypatch.setattr(EmbedHead, "list_pooled", lambda *_: None)
    with pytest.raises(ProofFailed, match="the vectors of embed differ"):
        export(source)


def test_a_default_prompt_goes_unasked(save: Save, export: ExportIt) -> None:
    prompts = {"query": "find the king: ", "long": "fox " * 70}
    source = save(Pooling(WIDTH, "mean"), prompts=prompts, default_prompt_name="query")
    result = export(source)
    assert any("'query' goes unasked" in note for note in result.notes)
    check_same(source, source.parent / "bundle")
    pipeline = Pipeline(result.bundle)
    plain = pipeline.embed(TEXTS[:3], prompt="")
    assert np.abs(plain - pipeline.embed(TEXTS[:3])).max() > 0.01
    with pytest.raises(InputTooLong, match="the prompt 'long' fills all"):
        pipeline.embed(TEXTS[:1], prompt="long", overflow="truncate")


@pytest.mark.parametrize("include", [True, False])
def test_a_prompt_that_is_cut_from_the_left(save: Save, export: ExportIt, *, include: bool) -> None:
    """It is the prompt that loses tokens, and the text that stays, however long the prompt is."""
    source = save(
        Pooling(WIDTH, ("mean", "weightedmean", "max"), include_prompt=include),
        prompts={"query": "find the king: ", "long": "fox " * 70},
    )
    change_json(source / "tokenizer_config.json", truncation_side="left")
    pipeline = Pipeline(export(source).bundle)
    for name in ("query", "long"):
        check_same(source, source.parent / "bundle", prompt_name=name)
    with pytest.raises(EmptyInput):
        pipeline.embed([""], prompt="long", overflow="truncate")
    with pytest.raises(InputTooLong, match="the prompt 'long' fills all"):
        pipeline.embed(TEXTS[:1], prompt="long", overflow="truncate", truncation_side="right")


@pytest.mark.parametrize(
    "settings",
    [
        {"max_seq_length": 8, "do_lower_case": False},
        {"tokenizer_args": {"model_max_length": 8}},
        {"processing_kwargs": {"text": {"max_length": 8}}},
        {"max_seq_length": 64, "do_lower_case": True},
        {"processing_kwargs": {"common": {"max_length": 8}}, "max_seq_length": 7},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_the_transformer(
    save: Save, export: ExportIt, settings: dict[str, Any]
) -> None:
    source = save(Pooling(WIDTH, "mean"))
    # The tokenizer's own length counts where these say none.
    change_json(source / "tokenizer_config.json", model_max_length=16)
    write_json(source / "sentence_bert_config.json", settings)
    manifest = export(source).bundle.manifest
    assert manifest.max_tokens == (64 if settings.get("do_lower_case") else 8)
    check_same(source, source.parent / "bundle")


def test_a_similarity_that_wants_lengths_is_told(save: Save, export: ExportIt) -> None:
    source = save(Pooling(WIDTH, "mean"), similarity_fn_name="dot")
    result = export(source)
    assert result.bundle.manifest.heads[0].similarity == "dot"
    assert any("normalize false" in note for note in result.notes)


def test_a_head_that_is_named_and_not_there(save: Save, export: ExportIt, tmp_path: Path) -> None:
    """As all-mpnet-base-v2: its config names a masked-LM head, and its weights hold none."""
    source = save(Pooling(WIDTH, "mean"))
    change_json(source / "config.json", architectures=["BertForMaskedLM"])
    result = export(source)
    assert result.bundle.manifest.tasks == ("embed",)
    assert any("no weights of the head of BertForMaskedLM" in note for note in result.notes)
    check_same(source, source.parent / "bundle")
    # Without files that say that vectors are wanted, the request has to.
    (source / "modules.json").unlink()
    with pytest.raises(SourceError, match="or ask for --tasks embed"):
        load_checkpoint(str(source))
    out = tmp_path / "other"
    assert main([str(source), str(out), "--tasks", "embed", "--pooling", "mean"]) == 0
    assert Bundle.open(out).manifest.tasks == ("embed",)
    # A part of the head is no head: that checkpoint is damaged.
    weights = transformers.BertModel.from_pretrained(source).state_dict()
    whole = {f"bert.{name}": value for name, value in weights.items()}
    whole["cls.predictions.transform.dense.weight"] = torch.zeros(WIDTH, WIDTH)
    save_file(whole, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match="lacks weights") as caught:
        load_checkpoint(str(source), embeds=True)
    assert "--tasks embed" not in str(caught.value)
