"""What a drill says where it cannot begin; the drills themselves need a stack that runs."""

import os
import subprocess
import sys
from pathlib import Path

from loadtest.drill import DRILLS

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest.drill", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unknown_drill_is_refused_with_those_there_are() -> None:
    done = call("kill", "flood")
    assert done.returncode == 2
    assert "there is no drill flood; there are " in done.stderr
    assert all(name in done.stderr for name in DRILLS)


def test_without_docker_it_says_what_it_needs(tmp_path: Path) -> None:
    done = call("nothing", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "docker is not there" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_drill_says_what_it_breaks() -> None:
    assert all(drill.__doc__ for drill in DRILLS.values())
