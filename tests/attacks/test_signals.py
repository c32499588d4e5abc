"""An export that is told to end, or is killed, at each of its steps."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import export.writing.exporter
from export.__main__ import main
from export.writing.signals import Signals, Stopped
from models.bundle.bundle import Bundle

ROOT = Path(__file__).parents[2]
# The function of export/writing/exporter.py that each step begins with.
STEPS = (
    "load_checkpoint",
    "ask_original",
    "export_trunk",
    "export_head",
    "make_golden",
    "prove",
    "place",
)
# The real command, which says so amid the import of torch, and goes on when its stdin is closed.
HELD = """
import runpy, sys

class Holder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn":
            print("held", flush=True)
            sys.stdin.read()

sys.meta_path.insert(0, Holder())
sys.argv[0] = "export"
runpy.run_module("export", run_name="__main__", alter_sys=True)
"""
KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
import export.writing.exporter
from export.__main__ import main
from tests.attacks.test_signals import cheapen

source, folder, *steps = sys.argv[1:]
codes = []
for step in steps:
    if child := os.fork():
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    for name, cheap in cheapen().items():
        setattr(export.writing.exporter, name, cheap)
    function = getattr(export.writing.exporter, step)
    def die(*given, **options):
        if step != "load_checkpoint":
            function(*given, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(export.writing.exporter, step, die)
    os._exit(main([source, os.path.join(folder, step, "bundle"), "--tasks", "next-sentence"]))
print(json.dumps(codes))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", STEPS[:-1])
def test_told_to_end(  # noqa: PLR0917 - fixtures
    pretraining_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    number: signal.Signals,
) -> None:
    out = tmp_path / "new" / "bundle"
    for name, function in cheapen(step).items():
        monkeypatch.setattr(export.writing.exporter, name, function)
    hear(monkeypatch, step, number)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    found = main([str(pretraining_source), str(out), "--tasks", "next-sentence"])
    assert found == 128 + number
    error = capsys.readouterr().err
    assert error.endswith("stopped; nothing was written\n")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
    after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def hear(monkeypatch: pytest.MonkeyPatch, step: str, number: signal.Signals) -> None:
    """Have the signal come when the step has begun."""

    def stop(*_: Any, **__: Any) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(export.writing.exporter, step, stop)


def cheapen(step: str = "") -> dict[str, Any]:
    """Steps without torch, but for this one: what lies in the directory is all that counts."""

    def write(_: Any, file: Path, *__: Any, **___: Any) -> int:
        file.write_bytes(b"graph")
        return 2

    def write_head(_: Any, __: Any, file: Path) -> None:
        file.write_bytes(b"graph")

    steps = {
        "ask_original": lambda *_, **__: None,
        "export_trunk": write,
        "export_head": write_head,
        "weigh_graph": lambda _: 5,
        "Pipeline": SimpleNamespace(open=lambda _, **__: None),
        "make_golden": lambda *_: {},
        "prove": lambda *_, **__: [],
        "measure_company": lambda _: 1.0,
    }
    return {name: function for name, function in steps.items() if name != step}


def test_told_to_end_when_it_is_done(
    pretraining_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the rename on it is too late: the bundle is there, and the command says so."""
    for name, function in cheapen().items():
        monkeypatch.setattr(export.writing.exporter, name, function)
    place: Callable[..., None] = export.writing.exporter.place

    def place_late(*given: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        place(*given, **options)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(export.writing.exporter, "place", place_late)
    out = tmp_path / "bundle"
    assert main([str(pretraining_source), str(out), "--tasks", "next-sentence"]) == 0
    assert Bundle.open(out).manifest.tasks == ("next-sentence",)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_signal_that_a_library_swallows() -> None:
    with Signals() as signals:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        # A second must not disturb the cleaning up; the next step stops all the same.
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped) as caught:
            signals.check()
        assert caught.value.exit_code == 143
        signals.hold()
        signals.check()


def test_what_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signals.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_killed(
    pretraining_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At every step; what is left has a name with a dot, and the next export removes it."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(pretraining_source), str(tmp_path), *STEPS],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [-signal.SIGKILL] * len(STEPS)
    for step in STEPS:
        left = sorted(path.name for path in (tmp_path / step).glob("*"))
        if step == "load_checkpoint":
            assert left == []
        elif step == "place":
            assert left == ["bundle"]
            assert Bundle.open(tmp_path / step / "bundle")
        else:
            (name,) = left
            assert name.startswith(".bundle.")
            assert name.endswith(".partial")
    out = tmp_path / "prove" / "bundle"
    for name, function in cheapen().items():
        monkeypatch.setattr(export.writing.exporter, name, function)
    assert main([str(pretraining_source), str(out), "--tasks", "next-sentence"]) == 0
    assert "is removed, which an export that was killed had left" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_told_to_end_from_outside(pretraining_source: Path, tmp_path: Path) -> None:
    """The real command, while it imports torch."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, str(pretraining_source), str(tmp_path / "bundle")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "Traceback" not in error
    assert error.endswith("stopped; nothing was written\n")
    assert list(tmp_path.iterdir()) == []
