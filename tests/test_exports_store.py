"""The store of bundles: one export for all, made anew where anything about it is another."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.helpers.store
from export.errors import OutputError
from export.graphs import trunk
from models.families import FAMILIES
from tests.helpers.checkpoints import write_json
from tests.helpers.store import ROOT, Store, open_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_json(tmp_path / "source" / "config.json", {"a": 1}).parent


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that are not answered from the store. Their bundles are two files."""
    requests: list[Any] = []

    def export_bundle(request: Any) -> None:
        requests.append(request)
        write_json(request.out / "manifest.json", {"name": request.bundle_name})
        write_json(request.out / "graph", {})

    monkeypatch.setattr(tests.helpers.store, "export_bundle", export_bundle)
    return requests


def test_one_export_for_all(source: Path, tmp_path: Path, asked: list[Any]) -> None:
    first, second = Store(tmp_path / "store"), Store(tmp_path / "store")
    bundle = first.export(source, "tiny")
    assert bundle.name == "tiny"
    assert bundle.is_relative_to(first.folder)
    assert {second.export(source, "tiny"), first.export(source, "tiny")} == {bundle}
    assert (len(asked), first.made, second.made) == (1, 1, 0)
    # Nothing lies beside the bundle: a folder of bundles has it alone.
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"]


def test_another_request_is_another_bundle(source: Path, tmp_path: Path, asked: list[Any]) -> None:
    store = Store(tmp_path / "store")
    found = [
        store.export(source, "tiny"),
        store.export(source, "other"),
        store.export(source, "tiny", tasks=("embed",)),
        store.export(source.rename(tmp_path / "renamed"), "tiny"),
    ]
    write_json(tmp_path / "renamed" / "config.json", {"a": 2})
    found.append(store.export(tmp_path / "renamed", "tiny"))
    write_json(tmp_path / "renamed" / "heads" / "config.json", {"a": 2})
    found.append(store.export(tmp_path / "renamed", "tiny"))
    assert len(set(found)) == len(asked) == 6
    assert asked[2].tasks == ("embed",)


@pytest.mark.parametrize("decides", ["code", "package", "processor", "python"])
def test_what_decides_an_export_makes_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decides: str
) -> None:
    before = Store(tmp_path / "store").folder
    assert Store(tmp_path / "store").folder == before
    match decides:
        case "code":
            write_json(tmp_path / "export" / "deep" / "new.py", {})
            monkeypatch.setattr(tests.helpers.store, "ROOT", tmp_path)
        case "package":
            monkeypatch.setattr("importlib.metadata.distributions", list)
        case "processor":
            monkeypatch.setattr(tests.helpers.store, "read_processor", lambda: ("other", ()))
        case _:
            monkeypatch.setattr("sys.version", "3.0")
    assert Store(tmp_path / "store").folder != before


def damage(bundle: Path) -> None:
    (bundle / "graph").write_text("x")


def forge(bundle: Path) -> None:
    write_json(bundle / "manifest.json", {"name": "forged"})


def add(bundle: Path) -> None:
    (bundle / "more").write_text("x")


def lose(bundle: Path) -> None:
    (bundle / "graph").unlink()


def add_beside(bundle: Path) -> None:
    (bundle.parent / "more").mkdir()


@pytest.mark.parametrize("change", [damage, forge, add, lose, add_beside])
def test_what_was_changed_is_told_and_made_anew(
    source: Path, tmp_path: Path, asked: list[Any], change: Callable[[Path], None]
) -> None:
    store = Store(tmp_path / "store")
    bundle = store.export(source, "tiny")
    assert store.find_changed() == []
    change(bundle)
    (told,) = store.find_changed()
    assert str(bundle.parent) in told
    assert Store(tmp_path / "store").export(source, "tiny") == bundle
    assert len(asked) == 2
    assert sorted(path.name for path in bundle.iterdir()) == ["graph", "manifest.json"]
    assert [path.name for path in bundle.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("left", ["{", "[]", "{}"])
def test_hashes_that_are_none_are_not_believed(
    source: Path, tmp_path: Path, asked: list[Any], left: str
) -> None:
    bundle = Store(tmp_path / "store").export(source, "tiny")
    bundle.parent.with_suffix(".json").write_text(left)
    Store(tmp_path / "store").export(source, "tiny")
    assert len(asked) == 2


def test_what_a_killed_run_left_is_not_taken(
    source: Path, tmp_path: Path, asked: list[Any]
) -> None:
    """Killed before the rename, and between it and the hashes."""
    store = Store(tmp_path / "store")
    bundle = store.export(source, "tiny")
    bundle.parent.with_suffix(".json").unlink()
    (store.folder / f".{bundle.parent.name}.abc").mkdir()
    assert Store(tmp_path / "store").export(source, "tiny") == bundle
    assert len(asked) == 2
    names = [path.name for path in store.folder.iterdir() if path.suffix != ".lock"]
    assert sorted(names) == sorted([bundle.parent.name, f"{bundle.parent.name}.json"])


def test_an_export_that_fails_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: Any) -> None:
        request.out.mkdir()
        raise ValueError

    monkeypatch.setattr(tests.helpers.store, "export_bundle", fail)
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError):
        store.export(source, "tiny")
    assert {path.suffix for path in store.folder.iterdir()} == {".lock"}


@pytest.mark.parametrize("error", [OSError(28, "full"), OutputError("full"), NotImplementedError()])
def test_without_a_store_every_process_makes_its_own(
    source: Path,
    tmp_path: Path,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Store, "_make", fail)
    store = Store(tmp_path / "store")
    bundle = store.export(source, "tiny")
    assert store.export(source, "tiny") == bundle
    assert len(asked) == 1
    assert not bundle.is_relative_to(tmp_path / "store")
    assert store.find_changed() == []
    store.close()
    assert not bundle.exists()


def test_a_place_that_cannot_be_written(source: Path, tmp_path: Path, asked: list[Any]) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file")
    assert store.export(source, "tiny").exists()
    store.close()
    assert len(asked) == 1


def test_old_keys_go(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for number in range(5):
        (folder / f"key{number}" / "entry").mkdir(parents=True)
        then = time.time() - 7200 + number
        os.utime(folder / f"key{number}", (then, then))
    (folder / "lately" / "entry").mkdir(parents=True)
    now = Store(folder).folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(["key4", "lately", now.name])


def test_nothing_is_kept_while_a_test_changes_what_exports(
    source: Path, tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(trunk, "attend_flat", None)
        with pytest.raises(AssertionError, match=r"changed \['export\.graphs\.trunk\.attend_flat'"):
            store.export(source, "tiny")
    with monkeypatch.context() as patch:
        patch.delitem(FAMILIES, "bert")
        with pytest.raises(AssertionError, match=r"models\.families\.FAMILIES"):
            store.export(source, "tiny")
    assert asked == []
    assert store.export(source, "tiny").exists()


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORTS_STORE", str(tmp_path / "elsewhere"))
    assert open_store().folder.parent == tmp_path / "elsewhere"
    monkeypatch.delenv("EXPORTS_STORE")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    assert open_store().folder.parent == ROOT / ".cache" / "exports"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/.cache/" in ignored
    assert ".cache" in (ROOT / "Makefile").read_text().partition("clean:")[2].splitlines()[1]
