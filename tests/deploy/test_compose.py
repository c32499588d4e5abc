"""The stack of docker-compose.yml against what the service takes and the settings say."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.error_response import ErrorBody
from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
STARTED = {name: each for name, each in SERVICES.items() if "profiles" not in each}
PROXY = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
_VARIABLE = re.compile(r"\$\{(\w+)")
_SET = re.compile(r"^#?(\w+)=(.*)$", re.MULTILINE)
_DEFAULT = re.compile(r"\$\{(\w+):?-([^}]*)\}")


def read_environment(service: str) -> dict[str, str | None]:
    environment: dict[str, str | None] = SERVICES[service]["environment"]
    return environment


def test_only_the_proxy_is_published() -> None:
    assert [name for name, each in STARTED.items() if "ports" in each] == ["proxy"]
    for name, each in SERVICES.items():
        if name != "proxy":
            assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ())), name


def test_replicas_and_metrics_have_no_way_out() -> None:
    assert COMPOSE["networks"]["internal"]["internal"] is True
    for name in ("cloze", "prometheus", "locust-worker"):
        assert SERVICES[name]["networks"] == ["internal"], name


def test_what_runs_for_long_is_started_again_and_its_log_bounded() -> None:
    for name, each in STARTED.items():
        assert each["restart"] == "unless-stopped", name
        assert each["logging"]["options"]["max-size"], name


def test_ours_run_without_rights() -> None:
    for name, each in SERVICES.items():
        if name != "grafana":
            assert each["read_only"] is True, name
            assert each["cap_drop"] == ["ALL"], name


def test_what_the_replicas_are_given_are_settings() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    keys = yaml.safe_load((ROOT / "deploy/compose/keys.yml").read_text())
    given = [*read_environment("cloze"), *keys["services"]["cloze"]["environment"]]
    assert set(given) <= known
    # What stands for itself is passed on; the address and the port are the stack's own.
    passed = {name for name, value in read_environment("cloze").items() if value is None}
    ours = {"CLOZE_BUNDLES", "CLOZE_HOST", "CLOZE_PORT"}
    assert passed == known - ours


def test_every_variable_is_explained_with_its_default() -> None:
    text = "".join(
        (ROOT / name).read_text() for name in ("docker-compose.yml", "deploy/compose/keys.yml")
    )
    explained = dict(_SET.findall((ROOT / ".env.example").read_text()))
    assert _VARIABLE.findall(text)
    assert set(_VARIABLE.findall(text)) <= explained.keys()
    for name, default in _DEFAULT.findall(text):
        if name not in ("SOURCE", "NAME"):
            assert explained[name] == default, name
    passed = {name for each in SERVICES.values() for name in each.get("environment") or ()}
    assert explained.keys() <= {*_VARIABLE.findall(text), *passed, "COMPOSE_FILE"}


def test_the_version_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, each in SERVICES.items():
        if "build" in each:
            assert each["image"].endswith(f":${{CLOZE_VERSION:-{version}}}"), name


def test_files_that_are_mounted_are_there() -> None:
    for name, each in SERVICES.items():
        for volume in each.get("volumes", ()):
            if isinstance(volume, dict):
                default = re.fullmatch(r"\$\{\w+:-(.+)\}", volume["source"])
                assert default, f"{name}: {volume['source']}"
                source = default[1]
                # What the user names and is not there must not be made, empty.
                assert volume["bind"] == {"create_host_path": False}, name
            else:
                source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_the_proxys_errors_have_the_services_shape() -> None:
    found = re.findall(r"http-error status (\d+) .*string '(.*)'$", PROXY, re.MULTILINE)
    assert [int(status) for status, _ in found] == [400, 408, 500, 502, 503, 504]
    for status, body in found:
        error = ErrorBody.model_validate_json(body).error
        assert list(json.loads(body)["error"]) == ["message", "type", "code", "param"]
        assert error.code, status


def test_the_proxy_waits_longer_than_the_service_does() -> None:
    (server_s,) = re.findall(r'timeout server "\$\{PROXY_TIMEOUT-(\d+)s\}"', PROXY)
    assert SERVICES["proxy"]["environment"] == {"PROXY_TIMEOUT": f"${{PROXY_TIMEOUT:-{server_s}s}}"}
    default_s = Settings.model_fields["timeout_s"].default
    assert int(server_s) > default_s
    assert int(SERVICES["proxy"]["stop_grace_period"].removesuffix("s")) > default_s


def test_a_replica_is_killed_only_after_it_would_have_drained() -> None:
    (grace_s,) = re.findall(r":-(\d+)s}$", SERVICES["cloze"]["stop_grace_period"])
    assert int(grace_s) >= Settings.model_fields["drain_s"].default + 10


def test_models_are_not_changed_through_the_proxy() -> None:
    (body,) = re.findall(
        r"http-request return status 404 .*string '(.*)' if \{ path,url_dec -m beg /admin \}$",
        PROXY,
        re.MULTILINE,
    )
    assert ErrorBody.model_validate_json(body).error.code == "route_not_found"


def test_a_replica_that_hangs_is_out_within_3_s() -> None:
    def read(name: str) -> float:
        (milliseconds,) = re.findall(rf"{name} (\d+)ms", PROXY)
        return float(milliseconds)

    (fall,) = re.findall(r"fall (\d+)", PROXY)
    # It may hang right after a check; each further one comes at the faster pace.
    checks = int(fall) * read("timeout check") + (int(fall) - 1) * read("fastinter")
    assert read(" inter") + checks < 3000


def test_what_is_asked_for_health_is_a_route() -> None:
    routes = create_app(Settings()).openapi()["paths"]
    (checked,) = re.findall(r"http-check send meth GET uri (\S+)", PROXY)
    assert checked in routes


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_the_proxy_reads_its_configuration() -> None:
    subprocess.run(["haproxy", "-c", "-f", ROOT / "deploy/haproxy/haproxy.cfg"], check=True)


@pytest.mark.parametrize("name", ["models", "service", "export", "loadtest", "pyproject.toml"])
def test_the_build_sees_what_the_images_take(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{name}" in ignored
    assert re.search(rf"^COPY .*\b{re.escape(name)}\b", (ROOT / "Dockerfile").read_text(), re.M)
