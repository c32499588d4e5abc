"""Kustomizations put together as kustomize does, by a merge that knows no more than they use."""

import base64
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

_FIELDS = {
    "apiVersion",
    "components",
    "configMapGenerator",
    "images",
    "kind",
    "patches",
    "resources",
    "secretGenerator",
}
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
Resource = dict[str, Any]


def read(path: Path) -> Resource:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict), path
    return content


def merge(old: Any, new: Any, field: str = "") -> Any:
    """A strategic merge: maps by key, the lists of MERGE_KEYS by theirs, the rest replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {
            key: merge(old[key], value, key) if key in old else value for key, value in new.items()
        }
    if isinstance(old, list) and isinstance(new, list) and field in MERGE_KEYS:
        key = MERGE_KEYS[field]
        merged = {item[key]: item for item in old}
        for item in new:
            merged[item[key]] = merge(merged.get(item[key], {}), item)
        return list(merged.values())
    return new


def assemble(folder: Path, given: Sequence[Resource] = ()) -> list[Resource]:
    """The resources that a kustomization gives, applied to those it is given."""
    plan = read(folder / "kustomization.yaml")
    assert plan.keys() <= _FIELDS
    resources = list(given)
    for name in plan.get("resources", ()):
        path = folder / name
        resources += assemble(path) if path.is_dir() else [read(path)]
    for generator in plan.get("configMapGenerator", ()):
        resources.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": generator["name"]},
                "data": dict(literal.split("=", 1) for literal in generator["literals"]),
            }
        )
    for generator in plan.get("secretGenerator", ()):
        files = (entry.split("=") for entry in generator["files"])
        resources.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": {"name": generator["name"]},
                "data": {
                    name: base64.b64encode((folder / path).read_bytes()).decode()
                    for name, path in files
                },
            }
        )
    for name in plan.get("components", ()):
        resources = assemble(folder / name, resources)
    for entry in plan.get("patches", ()):
        patch = read(folder / entry["path"])
        (index,) = (i for i, found in enumerate(resources) if identify(found) == identify(patch))
        resources[index] = merge(resources[index], patch)
    names = {image["name"]: image["newName"] for image in plan.get("images", ())}
    return json.loads(
        re.sub(
            r'("image": ")([^":]+)',
            lambda found: found[1] + names.get(found[2], found[2]),
            json.dumps(resources),
        )
    )


def identify(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


@cache
def build_of(name: str) -> list[Resource]:
    """The resources of base, of an overlay, or of base and one component."""
    if name == "base":
        return assemble(KUBERNETES / "base")
    if name in OVERLAYS:
        return assemble(KUBERNETES / "overlays" / name)
    return assemble(KUBERNETES / "components" / name, assemble(KUBERNETES / "base"))
