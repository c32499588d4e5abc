"""Which bundle answers."""

import shutil
from pathlib import Path

import pytest

from models.errors import BundleNotFound, OperatorError, SettingsError
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings
from tests.service.server import Server


def load(*bundles: Path, precision: str | None = None) -> Registry:
    registry = Registry()
    registry.load(Settings(bundles=bundles, precision=precision), Metrics())
    return registry


def test_the_first_model_that_has_the_task_answers(tiny: Server) -> None:
    first, second, third = (model.name for model in tiny.models)
    assert tiny.answer("/v1/embeddings", {"input": "rain"})["model"] == first
    assert tiny.answer("/v1/fill-mask", {"inputs": "[MASK]"})["model"] == first
    assert tiny.answer("/v1/classify", {"inputs": "rain"})["model"] == second
    for name in (first, second, third):
        assert tiny.answer("/v1/embeddings", {"input": "rain", "model": name})["model"] == name


def test_the_first_model_in_the_settings_is_the_first(
    pretraining_bundle: Path, classify_bundle: Path
) -> None:
    for bundles in ((pretraining_bundle, classify_bundle), (classify_bundle, pretraining_bundle)):
        registry = load(*bundles)
        assert [model.pipeline.bundle.path for model in registry] == list(bundles)
        assert registry.find(None, "embed").pipeline.bundle.path == bundles[0]
        registry.close()


def test_two_bundles_of_one_name_are_refused(pretraining_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(pretraining_bundle, tmp_path / "other")
    with pytest.raises(SettingsError, match="--name") as refused:
        load(pretraining_bundle, other)
    assert str(pretraining_bundle) in str(refused.value)
    assert str(other) in str(refused.value)


def test_one_bundle_given_twice_is_refused(pretraining_bundle: Path) -> None:
    with pytest.raises(SettingsError, match="is given twice; name it once"):
        load(pretraining_bundle, pretraining_bundle / ".")


def test_a_bundle_that_is_not_there_is_refused(pretraining_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="nothing"):
        load(pretraining_bundle, tmp_path / "nothing")


def test_a_precision_that_is_not_there_is_refused(pretraining_bundle: Path) -> None:
    with pytest.raises(OperatorError, match="fp32"):
        load(pretraining_bundle, precision="int8")


def test_nothing_is_alive_before_loading_nor_after_closing(pretraining_bundle: Path) -> None:
    assert not Registry().alive
    registry = load(pretraining_bundle)
    assert registry.alive
    registry.close()
    assert not registry.alive
