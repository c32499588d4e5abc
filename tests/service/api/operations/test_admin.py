"""Bundles loaded, replaced and removed over /admin, while others ask."""

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.bundle.bundle import Bundle
from models.bundle.manifest import FORMAT_VERSION
from models.choice import choose_engine
from tests.helpers.bundles import break_head, break_trunk, mark
from tests.helpers.checkpoints import change_json
from tests.helpers.gate import Gate
from tests.helpers.server import PATIENCE_S, Server, check_error, hold, serve, wait_until

ROUTE = "/admin/bundles"
KEY = {"authorization": "Bearer secret"}
CALLER = {"authorization": "Bearer caller"}
FIELDS = [
    "name",
    "path",
    "precision",
    "fingerprint",
    "tasks",
    "state",
    "reason",
    "requests",
    "loaded_at",
]


@dataclass
class Admin:
    """A service whose models may be changed, and the folder its bundles lie in."""

    server: Server
    folder: Path

    def add(self, bundle: Path, name: str) -> Path:
        return Path(shutil.copytree(bundle, self.folder / name))

    def load(self, path: Path, **fields: Any) -> httpx.Response:
        body = {"path": str(path), **fields}
        return self.server.client.post(ROUTE, json=body, headers=KEY)

    def remove(self, name: str) -> httpx.Response:
        return self.server.client.delete(f"{ROUTE}/{name}", headers=KEY)

    def list(self) -> list[dict[str, Any]]:
        response = self.server.client.get(ROUTE, headers=KEY)
        assert response.status_code == 200
        content: dict[str, list[dict[str, Any]]] = response.json()
        assert content.keys() == {"bundles"}
        assert all(list(entry) == FIELDS for entry in content["bundles"])
        return content["bundles"]

    def states(self) -> dict[str, str]:
        return {Path(entry["path"]).name: entry["state"] for entry in self.list()}

    def embed(self, **fields: Any) -> dict[str, Any]:
        response = self.server.client.post(
            "/v1/embeddings", json={"input": "rain", **fields}, headers=CALLER
        )
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content


def name_fingerprint(bundle: Bundle) -> str:
    """As it is told: with what runs it, where that is not the plain engine."""
    engine = choose_engine(bundle, "fp32").engine
    own = bundle.fingerprint
    return own if engine == "onnxruntime" else f"{own}-fp32-{engine}"


@pytest.fixture
def admin(pretraining_bundle: Path, tmp_path: Path) -> Iterator[Admin]:
    folder = tmp_path / "all"
    shutil.copytree(pretraining_bundle, folder / "first")
    with serve(folder, admin_keys="other,secret", api_keys="caller") as server:
        yield Admin(server, folder)


def test_without_admin_keys_there_is_no_such_route(tiny: Server) -> None:
    for method, path in (
        ("GET", ROUTE),
        ("POST", ROUTE),
        ("DELETE", f"{ROUTE}/{tiny.models[0].name}"),
        ("PUT", ROUTE),
    ):
        response = tiny.client.request(method, path, headers=KEY)
        check_error(response, 404, "route_not_found", None)
    document = tiny.client.get("/openapi.json").json()
    assert not [path for path in document["paths"] if path.startswith("/admin")]
    assert document["components"]["securitySchemes"].keys() == {"key"}


def test_where_it_is_on_it_is_documented(admin: Admin) -> None:
    document = admin.server.client.get("/openapi.json").json()
    operations = {
        (path, method): operation
        for path, each in document["paths"].items()
        for method, operation in each.items()
        if path.startswith("/admin")
    }
    assert operations.keys() == {(ROUTE, "get"), (ROUTE, "post"), (f"{ROUTE}/{{name}}", "delete")}
    for operation in operations.values():
        assert operation["security"] == [{"admin_key": []}]
    assert "admin_key" in document["components"]["securitySchemes"]


@pytest.mark.parametrize("key", [None, "Bearer caller", "Bearer wrong", "Basic secret"])
def test_only_an_admin_key_opens_it(key: str | None, admin: Admin) -> None:
    headers = {} if key is None else {"authorization": key}
    client = admin.server.client
    check_error(client.get(ROUTE, headers=headers), 401, "invalid_api_key", None)
    # Asked for before the body is read.
    response = client.post(ROUTE, content=b"{", headers=headers)
    check_error(response, 401, "invalid_api_key", None)
    response = client.delete(f"{ROUTE}/tiny-pretraining", headers=headers)
    check_error(response, 401, "invalid_api_key", None)
    assert admin.states() == {"first": "ready"}


def test_an_admin_key_opens_nothing_else(admin: Admin) -> None:
    client = admin.server.client
    response = client.post("/v1/embeddings", json={"input": "rain"}, headers=KEY)
    check_error(response, 401, "invalid_api_key", None)
    check_error(client.get("/v1/models", headers=KEY), 401, "invalid_api_key", None)
    for key in ("other", "secret"):
        headers = {"authorization": f"Bearer {key}"}
        assert client.get(ROUTE, headers=headers).status_code == 200


def test_it_lists_what_is_loaded(admin: Admin) -> None:
    bundle = Bundle.open(admin.folder / "first")
    (entry,) = admin.list()
    loaded_at = entry.pop("loaded_at")
    assert loaded_at.endswith("+00:00")
    assert entry == {
        "name": "tiny-pretraining",
        "path": str(bundle.path),
        "precision": "fp32",
        "fingerprint": name_fingerprint(bundle),
        "tasks": list(bundle.manifest.tasks),
        "state": "ready",
        "reason": None,
        "requests": 0,
    }
    (model,) = admin.server.models
    with ThreadPoolExecutor() as threads, hold(model.pipeline, model.batcher):
        asking = threads.submit(admin.embed)
        wait_until(lambda: admin.list()[0]["requests"] == 1)
    assert asking.result()["model"] == "tiny-pretraining"


def test_a_new_bundle_answers_once_it_is_loaded(admin: Admin, classify_bundle: Path) -> None:
    path = admin.add(classify_bundle, "second")
    response = admin.load(path)
    assert response.status_code == 200
    entry = response.json()
    assert (entry["name"], entry["path"]) == ("tiny-classify", str(path))
    assert (entry["state"], entry["requests"]) == ("ready", 0)
    assert admin.list()[1] == entry
    assert admin.embed(model="tiny-classify")["model"] == "tiny-classify"
    # Whoever names no model is answered as before.
    assert admin.embed()["model"] == "tiny-pretraining"


def test_a_precision_may_be_asked_for(minilm_bundle: Path, tmp_path: Path) -> None:
    path = shutil.copytree(minilm_bundle, tmp_path / "all/first")
    with serve(tmp_path / "all", admin_keys="secret") as server:
        admin = Admin(server, tmp_path / "all")
        entry = admin.load(path, precision="int8").json()
        assert entry["precision"] == "int8"
        (model,) = server.client.get("/v1/models").json()["data"]
        assert model["precision"] == "int8"
        message = check_error(admin.load(path, precision="int4"), 422, "misconfigured", "path")
        assert "no precision 'int4'" in message
        (ready, failed) = admin.list()
        assert (ready["precision"], ready["state"]) == ("int8", "ready")
        assert (failed["precision"], failed["state"]) == ("int4", "failed")


def test_a_replacement_waits_for_the_requests_of_what_it_replaces(admin: Admin) -> None:
    (old,) = admin.server.models
    path = mark(admin.add(admin.folder / "first", "next"), "one more")
    with ThreadPoolExecutor() as threads:
        with hold(old.pipeline, old.batcher):
            asking = threads.submit(admin.embed)
            wait_until(lambda: old.requests == 1)
            loading_it = threads.submit(admin.load, path)
            wait_until(lambda: "retiring" in admin.states().values())
            # The new one answers already, while the old one still has a request.
            assert admin.states() == {"next": "ready", "first": "retiring"}
            assert [entry["requests"] for entry in admin.list()] == [0, 1]
            admin.embed()
            assert not loading_it.done()
            assert not asking.done()
        assert asking.result()["model"] == old.name
        entry = loading_it.result().json()
    assert entry["fingerprint"] == name_fingerprint(Bundle.open(path)) != old.fingerprint
    assert admin.states() == {"next": "ready"}
    assert not old.batcher.alive


def test_nothing_refers_to_what_was_replaced(admin: Admin) -> None:
    """By the time of the answer, and without waiting for a collection."""
    (model,) = admin.server.models
    gone = [weakref.ref(part) for part in (model, model.pipeline, model.pipeline.trunk)]
    admin.embed()
    del model
    gc.disable()
    try:
        assert admin.load(admin.folder / "first").status_code == 200
        assert [each() for each in gone] == [None] * 3
    finally:
        gc.enable()


def spoil(path: Path, how: str) -> None:
    if how == "bundle_damaged":
        (path / "tokenizer.json").write_text("{}")
    elif how == "bundle_not_found":
        (path / "manifest.json").unlink()
    elif how == "bundle_too_new":
        change_json(path / "manifest.json", format_version=FORMAT_VERSION + 1)
    elif how == "a head that cannot be run":
        break_head(path)
    else:
        break_trunk(path)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("bundle_damaged", "bundle_damaged"),
        ("bundle_not_found", "bundle_not_found"),
        ("bundle_too_new", "bundle_too_new"),
        ("answers_wrong", "answers_wrong"),
        ("a head that cannot be run", "bundle_damaged"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing_and_is_told(
    how: str, code: str, admin: Admin
) -> None:
    (before,) = admin.server.models
    path = admin.add(admin.folder / "first", "second")
    spoil(path, how)
    message = check_error(admin.load(path), 422, code, "path")
    # In full: who asks is the operator.
    assert str(path) in message
    assert admin.server.models == [before]
    assert admin.embed()["model"] == before.name
    ready, failed = admin.list()
    assert (ready["state"], ready["reason"]) == ("ready", None)
    assert (failed["path"], failed["state"]) == (str(path), "failed")
    assert message == f"path: {failed['reason']}"
    # Mended, it is loaded, and no longer listed as failed.
    shutil.rmtree(path)
    admin.add(admin.folder / "first", "second")
    assert admin.load(path).status_code == 200
    assert admin.states() == {"second": "ready"}


def test_what_does_not_fit_beside_what_runs_is_refused(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.registry.memory.find_memory_limit", lambda _: 100_000_000)
    message = check_error(admin.load(admin.folder / "first"), 422, "misconfigured", "path")
    assert "of the 100 MB that this process may use" in message
    assert admin.states() == {"first": "failed"}
    assert admin.embed()["model"] == "tiny-pretraining"


def test_only_paths_inside_the_folders_of_bundles_are_taken(
    admin: Admin, classify_bundle: Path, tmp_path: Path
) -> None:
    (admin.folder / "link").symlink_to(classify_bundle)
    (admin.folder / "circle").symlink_to(admin.folder / "circle")
    (tmp_path / "beside").mkdir()
    messages = set()
    for path in (
        classify_bundle,
        classify_bundle.parent / "nothing",
        admin.folder,
        admin.folder / ".." / "beside",
        admin.folder / "first/../../beside",
        f"{admin.folder}-2/first",
        admin.folder / "link",
        admin.folder / "circle",
        admin.folder / "null\0byte",
        "/etc/passwd",
        "/",
        "first",
        "~",
    ):
        messages.add(check_error(admin.load(Path(path)), 422, "path_not_allowed", "path"))
    # The same whether there is something or nothing: it tells nobody what the disk holds.
    (message,) = messages
    assert str(admin.folder) in message
    check_error(admin.load(admin.folder / ("long" * 2_000)), 422, "invalid_value", "path")
    assert admin.states() == {"first": "ready"}


def test_beside_a_bundle_that_is_named_others_are_taken(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "real"
    shutil.copytree(pretraining_bundle, folder / "first")
    second = Path(shutil.copytree(classify_bundle, folder / "second"))
    (tmp_path / "alias").symlink_to(folder)
    with serve(tmp_path / "alias/first", admin_keys="secret") as server:
        admin = Admin(server, folder)
        assert admin.load(tmp_path / "alias/second").json()["path"] == str(second)
        check_error(admin.load(tmp_path / "third"), 422, "path_not_allowed", "path")
        # Still so once what was named is gone.
        shutil.rmtree(folder / "first")
        assert admin.load(second).status_code == 200
        check_error(admin.load(tmp_path / "third"), 422, "path_not_allowed", "path")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"path": "x", "name": "y"}, 422, "unknown_field", "name"),
        ({}, 422, "missing_field", "path"),
        ({"path": ""}, 422, "invalid_value", "path"),
        ({"path": 1}, 422, "invalid_value", "path"),
        ({"path": "x", "precision": 8}, 422, "invalid_value", "precision"),
        ([], 422, "invalid_value", None),
        (b"{", 400, "invalid_json", None),
        (b"", 400, "invalid_json", None),
        (b'{"path": "' + b"x" * 2_000 + b'"}', 413, "body_too_large", None),
    ],
)
def test_a_body_is_read_as_strictly_as_any(
    body: Any, status: int, code: str, param: str | None, pretraining_bundle: Path
) -> None:
    with serve(pretraining_bundle, admin_keys="secret", max_body_bytes=1_024) as server:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**KEY, "content-type": "application/json"}
        response = server.client.post(ROUTE, content=content, headers=headers)
        check_error(response, status, code, param)
        if status == 422:
            headers = {**KEY, "content-type": "text/plain"}
            response = server.client.post(ROUTE, content=content, headers=headers)
            check_error(response, 400, "invalid_content_type", None)


def test_what_is_removed_answers_its_last_and_is_gone(admin: Admin, classify_bundle: Path) -> None:
    admin.load(admin.add(classify_bundle, "second"))
    old = admin.server.models[0]
    with ThreadPoolExecutor() as threads:
        with hold(old.pipeline, old.batcher):
            asking = threads.submit(admin.embed, model=old.name)
            wait_until(lambda: old.requests == 1)
            removing = threads.submit(admin.remove, old.name)
            wait_until(lambda: admin.states()["first"] == "retiring")
            assert admin.embed()["model"] == "tiny-classify"
            assert not removing.done()
        assert asking.result()["model"] == old.name
        response = removing.result()
    assert response.status_code == 200
    entry = response.json()
    assert (entry["name"], entry["state"], entry["requests"]) == (old.name, "removed", 0)
    assert admin.states() == {"second": "ready"}
    assert not old.batcher.alive
    message = check_error(admin.remove(old.name), 404, "model_not_found", "model")
    assert "tiny-classify" in message


def test_the_last_model_is_not_removed(admin: Admin) -> None:
    message = check_error(admin.remove("tiny-pretraining"), 409, "last_model", None)
    assert "load another" in message
    assert admin.server.client.get("/health/ready").status_code == 200
    assert admin.embed()["model"] == "tiny-pretraining"


def test_one_change_at_a_time(
    admin: Admin, classify_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = admin.add(classify_bundle, "second")
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(admin.load, path)
        try:
            assert gate.entered.wait(PATIENCE_S)
            assert admin.states() == {"first": "ready", "second": "loading"}
            check_error(admin.load(path), 409, "change_under_way", None)
            message = check_error(admin.remove("tiny-pretraining"), 409, "change_under_way", None)
            assert ROUTE in message
            # Those who ask notice nothing.
            assert admin.embed()["model"] == "tiny-pretraining"
            assert admin.server.client.get("/health/ready").status_code == 200
        finally:
            gate.opened.set()
        assert first.result().status_code == 200
    assert admin.load(path).status_code == 200


def test_while_the_models_load_they_are_listed_and_not_changed(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with serve(pretraining_bundle, wait=False, admin_keys="secret") as server:
        admin = Admin(server, pretraining_bundle.parent)
        try:
            assert gate.entered.wait(PATIENCE_S)
            assert admin.states() == {pretraining_bundle.name: "loading"}
            message = check_error(admin.load(pretraining_bundle), 503, "not_ready", None)
            assert "loading" in message
        finally:
            gate.opened.set()
        wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        assert admin.states() == {pretraining_bundle.name: "ready"}


def test_a_model_whose_thread_has_ended_is_told_and_can_be_replaced(admin: Admin) -> None:
    admin.server.models[0].batcher.close()
    check_error(admin.server.client.get("/health/ready"), 503, "not_ready", None)
    (entry,) = admin.list()
    assert entry["state"] == "failed"
    assert "load it again" in entry["reason"]
    assert admin.load(admin.folder / "first").status_code == 200
    assert admin.server.client.get("/health/ready").status_code == 200
    assert admin.states() == {"first": "ready"}
