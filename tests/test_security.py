"""SECURITY.md and docs/operations.md name tests that exist; no attack is left unnamed."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()
PROMISES = (ROOT / "docs" / "operations.md").read_text()
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
NAMED = _NAMED.findall(TEXT)


def find_tests(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 50
    promised = _NAMED.findall(PROMISES)
    assert len(promised) == PROMISES.count(".py::") > 10
    for path, name in (*NAMED, *promised):
        assert name in find_tests(ROOT / path), f"{path}::{name}"


def test_every_threat_has_a_test() -> None:
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    threats = [row for row in rows if len(row) == 3 and row[0] != "threat"]
    assert len(threats) > 40
    for threat, done, test in threats:
        assert done, threat
        assert "::" in test, threat


def test_every_file_of_attacks_is_named() -> None:
    # Signals are no attack: they end an export.
    files = {path.name for path in (ROOT / "tests/attacks").glob("test_*.py")}
    named = {Path(path).name for path, _ in NAMED}
    assert files - named <= {"test_checkpoint.py", "test_signals.py"}
