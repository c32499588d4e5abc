"""The README's promises: its Python gives what it prints, its curl lines what stands below them."""

import doctest
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_CURL = re.compile(
    r"```sh\ncurl http://127\.0\.0\.1:8080(?P<path>\S+) -H '(?P<header>[^']+)' \\\n"
    r"  -d '(?P<body>[^']+)'\n```\n\n```json\n(?P<answer>.+)\n```"
)


def test_curl_lines_answer_as_printed(default_service: httpx.Client) -> None:
    lines = list(_CURL.finditer(README.read_text()))
    assert len(lines) >= 7
    for line in lines:
        name, value = line["header"].split(": ")
        found = default_service.post(line["path"], headers={name: value}, content=line["body"])
        assert _rounded(found.json()) == _rounded(json.loads(line["answer"]))


def test_python_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 6
    assert results.failed == 0


def test_every_environment_is_made_where_it_is_used() -> None:
    """In the block that uses it, or above: `make serve` makes one, and need not have been run."""
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL):
        for used in set(re.findall(r"(\.venv\S*?)/bin/", block)):
            assert f"{used}/.done" in block, block


def test_every_local_link_leads_somewhere() -> None:
    for page in (
        README,
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("bundles/*/README.md"),
        *ROOT.glob("deploy/*/README.md"),
        ROOT / "training/README.md",
        ROOT / "CONTRIBUTING.md",
    ):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _rounded(content: Any) -> Any:
    """The same, with numbers at the precision that CPUs agree on."""
    if isinstance(content, float):
        return round(content, 4)
    if isinstance(content, list):
        return [_rounded(part) for part in content]
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    return content
