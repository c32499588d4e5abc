"""Pooling is what the checkpoint's sentence-transformers files say, and nothing is guessed."""

from pathlib import Path
from typing import Any

import pytest

from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.pooling import find_pooling
from tests.helpers.checkpoints import write_json

OLD = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")


def declare(
    folder: Path, *kinds: str, pooling: dict[str, Any] | None = None, package: str = "models"
) -> Path:
    """Write modules.json with modules of these kinds, and the pooling's own config."""
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.{package}.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    if pooling is not None:
        write_json(folder / f"{kinds.index('Pooling')}_Pooling" / "config.json", pooling)
    return folder


def old_style(*active: str) -> dict[str, Any]:
    modes = {f"pooling_mode_{name}": name in active for name in OLD}
    return {"word_embedding_dimension": 32, **modes}


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        (old_style("mean_tokens"), "mean"),
        (old_style("cls_token"), "cls"),
        (old_style("max_tokens"), "max"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"], "include_prompt": True}, "mean"),
    ],
)
def test_declared(tmp_path: Path, pooling: dict[str, Any], wanted: str) -> None:
    declare(tmp_path, "Transformer", "Pooling", "Normalize", pooling=pooling)
    assert find_pooling(tmp_path, None) == (wanted, "sentence-transformers")
    # What the checkpoint says wins over the option.
    assert find_pooling(tmp_path, "max") == (wanted, "sentence-transformers")


def test_not_declared(tmp_path: Path) -> None:
    assert find_pooling(tmp_path, None) == ("mean", "default")
    assert find_pooling(tmp_path, "cls") == ("cls", "option")
    declare(tmp_path, "Transformer")
    assert find_pooling(tmp_path, "max") == ("max", "option")


@pytest.mark.parametrize(
    "pooling",
    [
        old_style("mean_tokens", "cls_token"),
        old_style(),
        old_style("lasttoken"),
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["mean", "max"]},
        {"pooling_mode": []},
        old_style("mean_tokens") | {"include_prompt": False},
    ],
)
def test_poolings_that_are_not_supported(tmp_path: Path, pooling: dict[str, Any]) -> None:
    declare(tmp_path, "Transformer", "Pooling", pooling=pooling)
    with pytest.raises(UnsupportedModel):
        find_pooling(tmp_path, "mean")


@pytest.mark.parametrize("kind", ["LSTM", "CNN", "WeightedLayerPooling", "LayerNorm"])
def test_modules_that_change_the_vector(tmp_path: Path, kind: str) -> None:
    declare(tmp_path, "Transformer", "Pooling", kind, pooling=old_style("mean_tokens"))
    with pytest.raises(UnsupportedModel, match=f"has a {kind} module"):
        find_pooling(tmp_path, None)


@pytest.mark.parametrize(
    ("name", "content", "kind", "sentence"),
    [
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "query", "prompts": {"query": "query: "}},
            UnsupportedModel,
            "puts its prompt 'query'",
        ),
        ("sentence_bert_config.json", {"do_lower_case": True}, UnsupportedModel, "do_lower_case"),
        ("sentence_bert_config.json", [1], SourceError, "not a JSON object"),
        ("config_sentence_transformers.json", 3, SourceError, "not a JSON object"),
        ("1_Pooling/config.json", [], SourceError, "not a JSON object"),
    ],
)
def test_settings_that_change_the_text(
    tmp_path: Path, name: str, content: Any, kind: type[ExportError], sentence: str
) -> None:
    declare(tmp_path, "Transformer", "Pooling", pooling=old_style("mean_tokens"))
    write_json(tmp_path / "sentence_bert_config.json", {"do_lower_case": False})
    unnamed = {"default_prompt_name": None, "prompts": {"query": "query: "}}
    write_json(tmp_path / "config_sentence_transformers.json", unnamed)
    assert find_pooling(tmp_path, None) == ("mean", "sentence-transformers")
    write_json(tmp_path / name, content)
    with pytest.raises(kind, match=sentence):
        find_pooling(tmp_path, None)


def test_a_pooling_module_without_its_config(tmp_path: Path) -> None:
    declare(tmp_path, "Transformer", "Pooling")
    with pytest.raises(SourceError, match="1_Pooling"):
        find_pooling(tmp_path, None)


def test_files_of_the_real_checkpoint(minilm_source: Path) -> None:
    assert find_pooling(minilm_source, None) == ("mean", "sentence-transformers")
