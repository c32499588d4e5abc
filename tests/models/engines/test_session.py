"""An engine is chosen by name, loaded when it is chosen, and asked for no more than is read."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Pipeline
from models.bundle.bundle import Bundle
from models.engines import ENGINES, open_session
from models.errors import SettingsError
from models.machine.limits import count_cores
from tests.helpers import remote_engine
from tests.helpers.remote_engine import RemoteSession

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["the king of france", "a red house by the sea", "rain"]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ENGINES, remote_engine.NAME, remote_engine.MODULE)
    return remote_engine.NAME


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="engine: 'abacus' is not an engine") as caught:
        open_session(tmp_path / "trunk.onnx", "trunk", engine="abacus")
    assert all(name in caught.value.message for name in ENGINES)


def test_an_engine_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "abacus", "models.engines.no_such_module")
    with pytest.raises(SettingsError, match=r"'abacus' cannot be loaded here .*no_such_module"):
        open_session(tmp_path / "trunk.onnx", "trunk", engine="abacus")


def test_no_engine_is_loaded_before_it_is_chosen() -> None:
    code = (
        "import sys, models.engines; assert 'onnxruntime' not in sys.modules; "
        "from models.engines import ENGINES, open_session; from pathlib import Path\n"
        "try: open_session(Path('no.onnx'), 'trunk')\n"
        "except Exception as error: print(type(error).__name__, 'onnxruntime' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["BundleDamaged", "True"]


def test_every_engine_can_be_imported() -> None:
    for name in ENGINES:
        # One of an extra, which need not be installed, says so.
        missing = name == "openvino" and find_spec(name) is None
        with pytest.raises(Exception, match="install what it needs" if missing else r"no\.onnx"):
            open_session(Path("no.onnx"), "trunk", engine=name)


def test_a_head_takes_one_thread_that_does_not_spin(pretraining_bundle: Path) -> None:
    """Whatever is wished for: a second pool would fight the trunk's for the same cores."""
    file = pretraining_bundle / "head.next-sentence.onnx"
    head = open_session(file, "head", threads=2, spin="on")
    assert (head.threads, head.spin) == (1, False)
    trunk = open_session(file, "trunk", threads=2, spin="on")
    assert (trunk.threads, trunk.spin) == (2, True)
    assert open_session(file, "trunk", spin="off").threads == count_cores()


def test_a_pipeline_runs_on_the_engine_it_is_given(pretraining_bundle: Path, remote: str) -> None:
    ours = Pipeline.open(pretraining_bundle, threads=1, engine="onnxruntime")
    theirs = Pipeline(Bundle.open(pretraining_bundle), engine=remote)
    assert isinstance(theirs.trunk, RemoteSession)
    assert theirs.trunk.role == "trunk"
    sessions = [head._session for head in theirs.heads if head._session is not None]
    assert [session.role for session in sessions] == ["head"] * len(sessions)  # type: ignore[attr-defined]
    pairs = [("one", "two")]
    assert theirs.next_sentence(pairs) == ours.next_sentence(pairs)
    np.testing.assert_array_equal(theirs.embed(TEXTS), ours.embed(TEXTS))
    theirs.reopen()
    theirs.probe()
    np.testing.assert_array_equal(theirs.embed(TEXTS), ours.embed(TEXTS))


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        (lambda pipeline: pipeline.embed(TEXTS), {"pool": 3}),
        (lambda pipeline: pipeline.embed(TEXTS, pooling="max"), {"pool": 3}),
        (lambda pipeline: pipeline.embed(TEXTS, pooling="cls"), {"take": 3}),
        (lambda pipeline: pipeline.next_sentence([("one", "two")] * 5), {"take": 5}),
        (lambda pipeline: pipeline.fill_mask(["the [MASK] of [MASK]", "a [MASK]"]), {"take": 3}),
    ],
    ids=["mean", "max", "cls", "next-sentence", "fill-mask"],
)
def test_only_the_rows_that_a_head_reads_leave_the_engine(
    pretraining_bundle: Path, remote: str, ask: Any, wanted: dict[str, int]
) -> None:
    pipeline = Pipeline(Bundle.open(pretraining_bundle), engine=remote)
    assert isinstance(pipeline.trunk, RemoteSession)
    pipeline.trunk.fetched.clear()
    ask(pipeline)
    assert pipeline.trunk.fetched == wanted
