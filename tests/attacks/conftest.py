"""Checkpoints and bundles to break, and the one way in which each has to be refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.__main__ import main
from tests.helpers.checkpoints import make_checkpoint

Refuse = Callable[..., str]


@pytest.fixture(scope="session")
def trunk_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BertModel: encoder, no head."""
    return make_checkpoint(tmp_path_factory.mktemp("trunk"), "bert", "BertModel")


@pytest.fixture
def source(trunk_source: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(trunk_source, tmp_path / "source"))


@pytest.fixture
def classifier(classify_source: Path, tmp_path: Path) -> Path:
    """A classifier of three labels to break."""
    return Path(shutil.copytree(classify_source, tmp_path / "classifier"))


@pytest.fixture
def bundle(classify_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to break: embed, and a classifier of three labels."""
    return Path(shutil.copytree(classify_bundle, tmp_path / "bundle"))


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Exports, and holds that it ends with this code and sentence, and leaves nothing."""

    def export(source: Path, code: int, *sentences: str, options: tuple[str, ...] = ()) -> str:
        out = tmp_path / "out" / "bundle"
        found = main([str(source), str(out), *options])
        error = capsys.readouterr().err
        last = error.strip().splitlines()[-1]
        assert found == code, error
        assert last.startswith("error: ")
        assert "Traceback" not in error
        for sentence in sentences:
            assert sentence in last
        # Neither the bundle, nor anything beside it, nor the directory made for it.
        assert not out.parent.exists()
        return last

    return export
