"""What lies in deploy/kubernetes fits the published schemas, the service, and itself.

Overlays are put together here by a merge that knows no more than they use; where kustomize or
kubectl is installed, it builds them too, and the two must agree.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from models.errors import SettingsError
from service.api import ROUTERS
from service.observability.metrics import Metrics
from service.settings import PREFIX, Settings
from tests.deploy.kustomize import (
    COMPONENTS,
    KUBERNETES,
    MERGE_KEYS,
    OVERLAYS,
    Resource,
    build_of,
    identify,
    read,
)

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# The oldest release that sleeps in preStop unasked, and the newest that the schemas know.
RELEASES = ("1.30", kubernetes_validate.latest_version().removesuffix(".0"))
WITHOUT_SCHEMA = {"ServiceMonitor"}
# What belongs to the cluster, not to a namespace of ours, and is therefore in no build.
APART = {KUBERNETES / "components/queue-autoscaling/prometheus-adapter.yaml"}

BUILDS = ("base", *COMPONENTS, *OVERLAYS)
EACH = pytest.mark.parametrize("build", BUILDS)

_KUSTOMIZE = next(
    (
        (path, command)
        for path, command in (
            (shutil.which("kustomize"), "build"),
            (shutil.which("kubectl"), "kustomize"),
        )
        if path
    ),
    None,
)


def find(build: str, kind: str, name: str = "cloze") -> Resource:
    (found,) = (item for item in build_of(build) if identify(item) == (kind, name))
    return found


def pod_of(build: str) -> Resource:
    pod: Resource = find(build, "Deployment")["spec"]["template"]["spec"]
    return pod


def containers_of(build: str) -> list[Resource]:
    pod = pod_of(build)
    return [*pod.get("initContainers", ()), *pod["containers"]]


def server_of(build: str) -> Resource:
    (container,) = pod_of(build)["containers"]
    assert container["name"] == "cloze"
    return container


def test_every_file_is_named_by_a_kustomization() -> None:
    named = set(APART)
    plans = set(KUBERNETES.rglob("kustomization.yaml"))
    for plan in plans:
        content = read(plan)
        patches = [entry["path"] for entry in content.get("patches", ())]
        for name in (*content.get("resources", ()), *content.get("components", ()), *patches):
            path = (plan.parent / name).resolve()
            named.add(path / "kustomization.yaml" if path.is_dir() else path)
    assert named <= set(KUBERNETES.rglob("*"))
    ways_in = {path for path in plans if path.parent.parent == KUBERNETES / "overlays"}
    alone = {KUBERNETES / "components" / name / "kustomization.yaml" for name in COMPONENTS}
    assert set(KUBERNETES.rglob("*.y*ml")) - named <= ways_in | alone


def test_kustomizations_say_what_they_are() -> None:
    for plan in KUBERNETES.rglob("kustomization.yaml"):
        content = read(plan)
        found = (content["apiVersion"], content["kind"])
        if "components" in plan.parts:
            assert found == ("kustomize.config.k8s.io/v1alpha1", "Component")
        else:
            assert found == ("kustomize.config.k8s.io/v1beta1", "Kustomization")


@pytest.mark.parametrize("release", RELEASES)
def test_everything_built_fits_the_schemas(release: str) -> None:
    # The same in many builds: once is enough.
    resources = {json.dumps(item): item for build in BUILDS for item in build_of(build)}
    for resource in resources.values():
        if resource["kind"] not in WITHOUT_SCHEMA:
            assert kubernetes_validate.validate(resource, release, strict=True) == release


def test_the_schemas_refuse_what_they_do_not_know() -> None:
    service = find("base", "Service")
    wrong = service | {"spec": service["spec"] | {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.skipif(_KUSTOMIZE is None, reason="neither kustomize nor kubectl is installed")
@EACH
def test_kustomize_builds_the_same(build: str, tmp_path: Path) -> None:
    assert _KUSTOMIZE is not None
    folder = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    if build in COMPONENTS:
        plan = {"resources": ["../../base"], "components": [f"../../components/{build}"]}
        (folder / "overlays" / build).mkdir()
        (folder / "overlays" / build / "kustomization.yaml").write_text(yaml.safe_dump(plan))
    target = folder / "base" if build == "base" else folder / "overlays" / build
    done = subprocess.run(
        [*_KUSTOMIZE, str(target)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    # A generated name ends in a hash of its content.
    output = re.sub(r"(ame: cloze-(bundle|api-keys))-[a-z0-9]{10}\b", r"\1", done.stdout)
    assert _in_order(list(yaml.safe_load_all(output))) == _in_order(build_of(build))


def _in_order(resources: Sequence[Resource]) -> list[Resource]:
    return [_sorted(item) for item in sorted(resources, key=identify)]


def _sorted(content: Any, field: str = "") -> Any:
    """The same, with the lists that are merged by key in the order of the keys."""
    if isinstance(content, dict):
        return {key: _sorted(value, key) for key, value in content.items()}
    if isinstance(content, list):
        items = [_sorted(item) for item in content]
        key = MERGE_KEYS.get(field)
        return sorted(items, key=lambda item: item[key]) if key else items
    return content


@EACH
def test_pods_are_restricted(build: str) -> None:
    pod = pod_of(build)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in containers_of(build):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}
        for amounts in container["resources"].values():
            assert amounts.keys() == {"cpu", "memory"}
    allowed = {"emptyDir", "persistentVolumeClaim", "secret"}
    for volume in pod["volumes"]:
        assert len(volume.keys() & allowed) == 1


@EACH
def test_the_pod_uses_an_account_without_rights(build: str) -> None:
    account = find(build, "ServiceAccount", pod_of(build)["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert not {"Role", "ClusterRole"} & {kind for kind, _ in map(identify, build_of(build))}


@EACH
def test_every_volume_is_there_and_mounted(build: str) -> None:
    mounted: set[str] = set()
    for container in containers_of(build):
        mounts = container.get("volumeMounts", ())
        mounted |= {mount["name"] for mount in mounts}
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
    assert mounted == {volume["name"] for volume in pod_of(build)["volumes"]}
    assert any(mount["mountPath"] == "/tmp" for mount in server_of(build)["volumeMounts"])
    for mount in server_of(build)["volumeMounts"]:
        assert mount["name"] == "tmp" or mount["readOnly"] is True


@EACH
def test_the_service_knows_every_setting(build: str) -> None:
    seen: list[str] = []
    for entry in server_of(build)["env"]:
        name = entry["name"]
        if name.startswith(PREFIX):
            assert name.removeprefix(PREFIX).lower() in Settings.model_fields
        # Kubernetes fills in only what stands above.
        assert set(re.findall(r"\$\((\w+)\)", entry.get("value", ""))) <= set(seen)
        seen.append(name)


@EACH
def test_image_tags_are_this_version(build: str) -> None:
    for container in containers_of(build):
        name, _, tag = container["image"].rpartition(":")
        assert name.rpartition("/")[2] in {"cloze-serve", "cloze-export", "cloze-bundles"}
        if not name.endswith("cloze-bundles"):
            assert tag == VERSION


def list_paths() -> set[str]:
    """The paths of all routes."""
    return {getattr(route, "path", "") for each in ROUTERS for route in each.routes}


def test_probes_ask_routes_of_the_service() -> None:
    routes = list_paths()
    container = server_of("base")
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness")}
    asked["liveness"] = container["livenessProbe"]["httpGet"]
    assert {kind: probe["path"] for kind, probe in asked.items()} == {
        "startup": "/health/ready",
        "readiness": "/health/ready",
        "liveness": "/health/live",
    }
    assert {probe["path"] for probe in asked.values()} < routes
    assert {probe["port"] for probe in asked.values()} == {"http"}


def test_ports_match() -> None:
    (port,) = server_of("base")["ports"]
    assert port == {"name": "http", "containerPort": Settings.model_fields["port"].default}
    (service_port,) = find("base", "Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    (rule,) = find("base", "NetworkPolicy")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]


@EACH
def test_selectors_match_labels(build: str) -> None:
    deployment = find(build, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        find(build, "Service")["spec"]["selector"],
        find(build, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(
            item["spec"]["podSelector"]["matchLabels"]
            for item in build_of(build)
            if item["kind"] == "NetworkPolicy"
        ),
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in deployment["template"]["spec"]["topologySpreadConstraints"]
        ),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()


@EACH
def test_the_autoscaler_alone_sets_the_replicas(build: str) -> None:
    deployment = find(build, "Deployment")
    assert "replicas" not in deployment["spec"]
    autoscaler = find(build, "HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    budget = find(build, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] < autoscaler["minReplicas"] < autoscaler["maxReplicas"]
    down = autoscaler["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300


def test_a_pod_ends_after_its_last_request() -> None:
    sleep = server_of("base")["lifecycle"]["preStop"]["sleep"]["seconds"]
    draining = Settings.model_fields["drain_s"].default
    assert pod_of("base")["terminationGracePeriodSeconds"] >= sleep + draining + 10
    update = find("base", "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_spread_over_hosts_and_zones() -> None:
    keys = [entry["topologyKey"] for entry in pod_of("base")["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_only_the_export_calls_out() -> None:
    for build in BUILDS:
        policies = [item for item in build_of(build) if item["kind"] == "NetworkPolicy"]
        rules = [rule for policy in policies for rule in policy["spec"]["egress"]]
        ports = {port["port"] for rule in rules for port in rule["ports"]}
        assert ports == ({53, 443} if build == "bundles-volume" else set())
        # A rule without addressees is for everybody.
        assert all(rule["to"] for rule in rules)
        assert "Egress" in find(build, "NetworkPolicy")["spec"]["policyTypes"]


def test_the_queue_metric_is_made_of_the_services_own() -> None:
    (path,) = APART
    (rule,) = read(path)["rules"]["custom"]
    (metric,) = find("queue-autoscaling", "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    samples = [sample for family in Metrics().registry.collect() for sample in family.samples]
    series = {sample.name for sample in samples if sample.labels.get("stage") == "queue"}
    asked = re.findall(r'(cloze_\w+)\{stage="queue",', rule["seriesQuery"] + rule["metricsQuery"])
    assert asked == ["cloze_stage_seconds_count", "cloze_stage_seconds_sum", *asked[:1] * 2]
    assert set(asked) <= series
    assert re.fullmatch(rule["name"]["matches"], asked[0])
    assert rule["metricsQuery"].count("<<.LabelMatchers>>") == len(asked) - 1
    assert rule["resources"]["overrides"].keys() == {"namespace", "pod"}


def test_prometheus_finds_the_service() -> None:
    monitor = find("service-monitor", "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    service = find("service-monitor", "Service")
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in list_paths()
    # A rate over a minute wants more than two points in it.
    assert int(endpoint["interval"].removesuffix("s")) <= 60 // 3
    assert int(endpoint["scrapeTimeout"].removesuffix("s")) < 15


def test_keys_come_from_a_secret_as_a_file() -> None:
    (secret,) = (item for item in build_of("production") if item["kind"] == "Secret")
    (volume,) = (entry for entry in pod_of("production")["volumes"] if "secret" in entry)
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    assert volume["secret"]["defaultMode"] == 0o440
    mounts = {mount["name"]: mount for mount in server_of("production")["volumeMounts"]}
    entries = {entry["name"]: entry for entry in server_of("production")["env"]}
    folder, name = mounts[volume["name"]]["mountPath"], *secret["data"]
    assert entries["CLOZE_API_KEYS_FILE"]["value"] == f"{folder}/{name}"


def test_nobody_serves_with_the_keys_of_the_example() -> None:
    example = KUBERNETES / "overlays/production/api-keys.example"
    with pytest.raises(SettingsError, match="holds no key"):
        Settings(api_keys_file=example)


@pytest.fixture
def export_script(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The export's command on a volume in tmp_path, with a python that says what it is asked."""
    (container,) = pod_of("bundles-volume")["initContainers"]
    config = find("bundles-volume", "ConfigMap", "cloze-bundle")
    assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    command = [part.replace("/bundles", f"{tmp_path}/bundles") for part in container["command"]]
    return command, {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | config["data"]


def test_the_export_runs_once(
    export_script: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    command, environment = export_script

    def run() -> str:
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    name, source = environment["NAME"], environment["SOURCE"]
    bundle = tmp_path / "bundles" / name
    assert run() == f"-m export {source} {bundle} --name {name} --revision main\n"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").touch()
    assert "already" in run()


def test_the_exported_bundle_is_the_one_served() -> None:
    entries = {entry["name"]: entry for entry in server_of("bundles-volume")["env"]}
    named = entries["BUNDLE_NAME"]["valueFrom"]["configMapKeyRef"]
    assert named == {"name": "cloze-bundle", "key": "NAME"}
    assert entries["CLOZE_BUNDLES"]["value"] == "/bundles/$(BUNDLE_NAME)"


def test_the_readme_names_every_part() -> None:
    readme = (KUBERNETES / "README.md").read_text()
    for name in (*COMPONENTS, *OVERLAYS):
        assert f"`{name}`" in readme or f"overlays/{name}" in readme
    assert set(re.findall(r"cloze-(?:serve|export):([\d.]*\d)", readme)) == {VERSION}
