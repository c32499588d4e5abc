"""Names that no model has itself: those an operator gives, and those of the hub."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import structlog

from models.errors import ModelNotFound, SettingsError
from service.observability.metrics import Metrics
from service.registry.aliases import Aliases
from service.registry.registry import Registry
from service.settings import Settings, read_settings
from tests.helpers.checkpoints import change_json
from tests.helpers.server import Server, check_error, serve

FIRST, SECOND = "tiny-pretraining", "tiny-classify"
ADMIN = {"authorization": "Bearer admin"}


@pytest.fixture(scope="module")
def named(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    """Serves two tiny models, which have other names besides."""
    with serve(
        pretraining_bundle,
        classify_bundle,
        aliases=f"text-embedding-3-small={SECOND}, gpt={FIRST},other/{FIRST}={SECOND}",
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (FIRST, FIRST),
        ("gpt", FIRST),
        ("text-embedding-3-small", SECOND),
        (f"team/{SECOND}", SECOND),
        # What is set comes before what is made of the name.
        (f"other/{FIRST}", SECOND),
    ],
)
def test_every_route_answers_under_the_models_own_name(
    name: str, model: str, named: Server
) -> None:
    assert named.answer("/v1/embeddings", {"input": "rain", "model": name})["model"] == model
    path, item = ("/v1/classify", "rain") if model == SECOND else ("/v1/fill-mask", "[MASK]")
    assert named.answer(path, {"inputs": item, "model": name})["model"] == model
    told = named.client.get(f"/v1/models/{name}").json()
    assert told["id"] == model
    assert named.read_metric("cloze_requests_total", model=model) > 0
    assert name == model or f'"{name}"' not in named.client.get("/metrics").text


@pytest.mark.parametrize(
    "name",
    ["nobody", "", "/", f"/{FIRST}", f"{FIRST}/", f"a/b/{FIRST}", "*", FIRST.upper(), " gpt"],
)
def test_what_is_no_name_is_refused(name: str, named: Server) -> None:
    body = {"input": "rain", "model": name}
    message = named.refuse("/v1/embeddings", body, 404, "model_not_found", "model")
    assert f"loaded are {FIRST}, {SECOND}" in message


def test_the_list_tells_the_aliases(named: Server, tiny: Server) -> None:
    first, second = named.client.get("/v1/models").json()["data"]
    assert first["aliases"] == ["gpt"]
    assert second["aliases"] == ["text-embedding-3-small", f"other/{FIRST}"]
    assert [model["aliases"] for model in tiny.client.get("/v1/models").json()["data"]] == [[]] * 4


def test_openais_client_asks_by_an_alias(named: Server) -> None:
    with openai.OpenAI(base_url=f"{named.url}/v1", api_key="any", max_retries=0) as client:
        answer = client.embeddings.create(model="text-embedding-3-small", input="rain")
        assert answer.model == SECOND
        assert client.models.retrieve("text-embedding-3-small").id == SECOND


def test_one_may_stand_for_all_names(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    slashed = Path(shutil.copytree(classify_bundle, tmp_path / "bundle"))
    change_json(slashed / "manifest.json", name=f"team/{FIRST}")
    with serve(pretraining_bundle, slashed, aliases=f"*=team/{FIRST}") as server:
        for name, model in (
            ("gpt-6", f"team/{FIRST}"),
            ("", f"team/{FIRST}"),
            # A name that a model has is its own, with a slash in it too.
            (FIRST, FIRST),
            (f"team/{FIRST}", f"team/{FIRST}"),
            (f"others/{FIRST}", FIRST),
        ):
            body = {"input": "rain", "model": name}
            assert server.answer("/v1/embeddings", body)["model"] == model
        # Left out, the first that has the task answers, as ever.
        assert server.answer("/v1/embeddings", {"input": "rain"})["model"] == FIRST
        assert server.client.get("/v1/models").json()["data"][1]["aliases"] == ["*"]


def test_an_alias_for_nothing_stops_the_start(pretraining_bundle: Path) -> None:
    settings = Settings(bundles=(pretraining_bundle,), aliases="gpt=lacuna")  # type: ignore[arg-type]
    registry = Registry(settings, Metrics())
    with pytest.raises(SettingsError, match="'gpt' stand for 'lacuna', which is no model here"):
        registry.load()
    assert "gpt" in registry.unready
    registry.close()


def test_where_models_come_and_go_an_alias_may_wait(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(pretraining_bundle, folder / "first")
    aliases = f"gpt={SECOND},{FIRST}={SECOND}"
    with (
        structlog.testing.capture_logs() as logs,
        serve(folder, admin_keys="admin", aliases=aliases) as server,
    ):
        warned = [line["event"] for line in logs if line["log_level"] == "warning"]
        assert warned == ["alias without its model"] * 2 + ["alias not used"]
        body = {"input": "rain", "model": "gpt"}
        message = server.refuse("/v1/embeddings", body, 404, "model_not_found", "model")
        assert f"'gpt' stands for {SECOND!r}, which is not loaded" in message
        second = shutil.copytree(classify_bundle, folder / "second")
        loaded = server.client.post("/admin/bundles", json={"path": str(second)}, headers=ADMIN)
        assert loaded.status_code == 200
        assert server.answer("/v1/embeddings", body)["model"] == SECOND
        # Over /admin a model is named by its own name alone.
        response = server.client.delete("/admin/bundles/gpt", headers=ADMIN)
        check_error(response, 404, "model_not_found", "model")
        assert server.client.delete(f"/admin/bundles/{SECOND}", headers=ADMIN).status_code == 200
        server.refuse("/v1/embeddings", body, 404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("gpt", "'gpt' is no alias; write ALIAS=MODEL"),
        ("=x", "'=x' is no alias"),
        ("gpt=", "'gpt=' is no alias"),
        ("a=b,a=c", "'a' is there twice"),
    ],
)
def test_what_is_no_alias_is_refused(
    value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOZE_ALIASES", value)
    with pytest.raises(SettingsError, match="CLOZE_ALIASES is ") as refused:
        read_settings()
    assert sentence in str(refused.value)


def test_aliases_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOZE_ALIASES", " a = b , *=c,,d=e=f")
    assert read_settings().aliases == (("a", "b"), ("*", "c"), ("d", "e=f"))


def test_an_alias_is_no_name_for_another() -> None:
    aliases = Aliases({"a": "b", "b": "c"})
    with pytest.raises(ModelNotFound, match="'a' stands for 'b', which is not loaded"):
        aliases.find("a", {"c": None})
