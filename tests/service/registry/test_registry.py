"""Which bundle answers, and how the set of them changes while they do."""

import asyncio
import json
import math
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from models.bundle.bundle import Bundle, hash_file
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.errors import (
    AnswersWrong,
    BundleDamaged,
    BundleNotFound,
    OperatorError,
    SettingsError,
)
from models.heads import EmbedOptions
from models.pipeline import Pipeline, prepare
from service.errors import NotReady
from service.observability.metrics import Metrics
from service.registry import bundle_paths
from service.registry.loaded_model import LoadedModel
from service.registry.registry import Registry
from service.scheduling.ticket import Ticket
from service.settings import Settings
from tests.helpers.bundles import break_head, break_trunk, mark
from tests.helpers.checkpoints import change_json
from tests.helpers.endless import make_endless
from tests.helpers.server import Server, check_error, hold, serve, wait_until


def load(*bundles: Path, precision: str | None = None) -> Registry:
    registry = Registry(Settings(bundles=bundles, precision=precision), Metrics())
    registry.load()
    return registry


def test_the_first_model_that_has_the_task_answers(tiny: Server) -> None:
    first, second, third, _ = (model.name for model in tiny.models)
    assert tiny.answer("/v1/embeddings", {"input": "rain"})["model"] == first
    assert tiny.answer("/v1/fill-mask", {"inputs": "[MASK]"})["model"] == first
    assert tiny.answer("/v1/classify", {"inputs": "rain"})["model"] == second
    for name in (first, second, third):
        assert tiny.answer("/v1/embeddings", {"input": "rain", "model": name})["model"] == name


def test_the_first_model_in_the_settings_is_the_first(
    pretraining_bundle: Path, classify_bundle: Path
) -> None:
    for bundles in ((pretraining_bundle, classify_bundle), (classify_bundle, pretraining_bundle)):
        registry = load(*bundles)
        assert [model.pipeline.bundle.path for model in registry] == list(bundles)
        assert registry.find(None, "embed").pipeline.bundle.path == bundles[0]
        registry.close()


def test_two_bundles_of_one_name_are_refused(pretraining_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(pretraining_bundle, tmp_path / "other")
    with pytest.raises(SettingsError, match="--name") as refused:
        load(pretraining_bundle, other)
    assert str(pretraining_bundle) in str(refused.value)
    assert str(other) in str(refused.value)


def test_one_bundle_given_twice_is_refused(pretraining_bundle: Path) -> None:
    with pytest.raises(SettingsError, match="is given twice; name it once"):
        load(pretraining_bundle, pretraining_bundle / ".")


def test_a_bundle_that_is_not_there_is_refused(pretraining_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="nothing"):
        load(pretraining_bundle, tmp_path / "nothing")


def test_a_precision_that_is_not_there_is_refused(pretraining_bundle: Path) -> None:
    with pytest.raises(OperatorError, match="fp32"):
        load(pretraining_bundle, precision="int8")


def test_nothing_is_alive_before_loading_nor_after_closing(pretraining_bundle: Path) -> None:
    assert not Registry(Settings(), Metrics()).alive
    registry = load(pretraining_bundle)
    assert registry.alive
    registry.close()
    assert not registry.alive


def test_an_empty_folder_beside_a_bundle_is_no_error(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    registry = load(pretraining_bundle, tmp_path)
    assert [model.pipeline.bundle.path for model in registry] == [pretraining_bundle]
    registry.close()
    with pytest.raises(BundleNotFound, match=r"no bundle in .*python -m export"):
        load(tmp_path)


class Folder:
    """A folder of bundles, and a registry that serves what is in it."""

    def __init__(self, path: Path, *bundles: Path) -> None:
        """What it serves at first are the bundles that are named, else all in the folder."""
        self.path = path
        self.registry = Registry(Settings(bundles=bundles or (path,)), Metrics())

    def add(self, bundle: Path, name: str) -> Path:
        return Path(shutil.copytree(bundle, self.path / name))

    def load(self, path: Path, precision: str | None = None) -> None:
        self.registry.add(str(path), precision)

    def reload(self) -> None:
        self.registry.reload()

    @property
    def names(self) -> list[str]:
        return [model.name for model in self.registry]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(Path(entry.path).name, entry.state) for entry in self.registry.list()]


@pytest.fixture
def folder(pretraining_bundle: Path, tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "all")
    folder.add(pretraining_bundle, "first")
    folder.registry.load()
    yield folder
    folder.registry.close()


def test_a_bundle_named_to_come_first_may_lie_in_the_folder(
    folder: Folder, classify_bundle: Path
) -> None:
    folder.add(classify_bundle, "a")
    registry = load(folder.path / "first", folder.path)
    assert [model.pipeline.bundle.path.name for model in registry] == ["first", "a"]
    registry.close()


def test_what_is_new_is_added_and_what_runs_stays(folder: Folder, classify_bundle: Path) -> None:
    (running,) = folder.registry
    folder.add(classify_bundle, "a")
    folder.reload()
    assert sorted(folder.names) == ["tiny-classify", "tiny-pretraining"]
    assert folder.registry.find("tiny-pretraining", "embed") is running
    assert folder.registry.find(None, "classify").pipeline.classify(["rain"])


def test_what_has_changed_is_replaced_once_its_requests_are_over(
    folder: Folder, classify_bundle: Path
) -> None:
    (running,) = folder.registry
    shutil.rmtree(folder.path / "first")
    other = folder.add(classify_bundle, "first")
    change_json(other / "manifest.json", name="tiny-pretraining")
    model, head = folder.registry.take_head(None, "embed", None)
    try:
        assert model is running
        reading = threading.Thread(target=folder.reload)
        reading.start()
        wait_until(lambda: folder.registry.find(None, "embed") is not running)
        assert running.batcher.alive  # its request may still hand in what it has
        with hold(running.pipeline, running.batcher):
            pass
        assert reading.is_alive()
    finally:
        folder.registry.release(model)
    reading.join()
    assert not running.batcher.alive
    (replaced,) = folder.registry
    assert replaced.fingerprint != running.fingerprint
    assert ("classify", None) in replaced.heads
    assert head is running.pipeline.heads[0]


def test_what_is_replaced_is_watched_until_its_last_answer(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    """Its session hangs when it is replaced: the request hears why, and the new one takes over."""
    bundle = Path(shutil.copytree(pretraining_bundle, tmp_path / "all" / "first"))
    endless = OnnxRuntimeSession(make_endless(tmp_path / "endless.onnx"), threads=1)
    with serve(bundle.parent) as server, ThreadPoolExecutor() as threads:
        (running,) = server.models
        hang(running, endless)
        asked = threads.submit(server.post, "/v1/embeddings", {"input": "rain"})
        wait_until(lambda: running.batcher._run is not None)
        touch(bundle)
        reading = threads.submit(server.manager.reload)
        wait_until(lambda: running not in server.models)
        run = running.batcher._run
        assert run is not None
        # From now on it stands still for too long, and so does what is tried instead.
        run._stall_s = run.stuck_at = 0.0
        message = check_error(asked.result(), 503, "not_ready", None)
        assert "other files" in message
        reading.result()
        server.answer("/v1/embeddings", {"input": "rain"})


def test_a_hung_text_that_nobody_waits_for_does_not_keep_what_is_replaced(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.registry.registry._LAST_BATCH_S", 0.1)
    (running,) = folder.registry
    hang(running, OnnxRuntimeSession(make_endless(tmp_path / "endless.onnx"), threads=1))

    async def leave() -> None:
        head = running.pipeline.find_head("embed")
        jobs = prepare(head, ["rain"], head.resolve(EmbedOptions()))
        ticket = Ticket(jobs, deadline=math.inf)
        running.batcher.submit(ticket)
        await asyncio.to_thread(wait_until, lambda: running.batcher._run is not None)
        running.batcher.finish(ticket, learn=False)

    asyncio.run(leave())
    touch(folder.path / "first")
    folder.reload()
    assert list(folder.registry) != [running]
    wait_until(lambda: not running.batcher._thread.is_alive())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_stand_still_count_when_their_model_is_gone(
    pretraining_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three versions of a model hang and are replaced: the process is not live any more."""
    monkeypatch.setattr("service.scheduling.batcher._GRACE_S", 0.1)
    bundle = Path(shutil.copytree(pretraining_bundle, tmp_path / "bundle"))
    with serve(bundle, stall_s=0.3) as server:
        with ExitStack() as held:
            for turn in range(3):
                (model,) = server.models
                # What nothing can stop; its only text hears that it was not computed.
                held.enter_context(hold(model.pipeline, model.batcher))
                wait_until(lambda model=model: model.batcher.stuck == 1)
                assert server.client.get("/health/live").status_code == (503 if turn == 2 else 200)
                mark(bundle, str(turn))
                server.manager.reload()
                assert server.models != [model]
            message = check_error(server.client.get("/health/live"), 503, "not_ready", None)
            assert message.startswith("3 computations")
        wait_until(lambda: server.client.get("/health/live").status_code == 200)


def touch(bundle: Path) -> None:
    """Make other files of it, with the same answers."""
    golden = bundle / "golden.json"
    golden.write_text(golden.read_text() + "\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    entry = {"sha256": hash_file(golden), "bytes": golden.stat().st_size}
    change_json(bundle / "manifest.json", files=manifest["files"] | {"golden.json": entry})


def hang(model: LoadedModel, endless: OnnxRuntimeSession) -> None:
    trunk = model.pipeline.trunk
    trunk._session, trunk._inputs = endless._session, endless._inputs


def test_what_is_gone_is_removed(folder: Folder, classify_bundle: Path) -> None:
    folder.add(classify_bundle, "a")
    folder.reload()
    gone = folder.registry.find("tiny-pretraining", "embed")
    shutil.rmtree(folder.path / "first")
    folder.reload()
    assert folder.names == ["tiny-classify"]
    assert not gone.batcher.alive


def test_the_last_one_is_kept(folder: Folder) -> None:
    shutil.rmtree(folder.path / "first")
    folder.reload()
    assert folder.names == ["tiny-pretraining"]
    assert folder.registry.alive


def test_what_is_damaged_changes_nothing_and_is_told(
    folder: Folder, classify_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (running,) = folder.registry
    (folder.path / "first/tokenizer.json").write_text("{}")
    added = folder.add(classify_bundle, "a")
    (folder.add(classify_bundle, "b") / "trunk.fp32.onnx").unlink()
    folder.reload()
    assert sorted(folder.names) == ["tiny-classify", "tiny-pretraining"]
    assert folder.registry.find("tiny-pretraining", "embed") is running
    assert folder.registry.find("tiny-classify", "embed").pipeline.bundle.path == added
    told = capsys.readouterr()
    for file in ("first/tokenizer.json", "b/trunk.fp32.onnx"):
        assert str(folder.path / file) in told.out + told.err


def test_a_folder_that_may_not_be_read_changes_nothing(folder: Folder) -> None:
    (running,) = folder.registry
    shutil.move(folder.path, folder.path.with_name("away"))
    folder.reload()
    assert list(folder.registry) == [running]
    assert running.batcher.alive


def test_a_bundle_that_answers_otherwise_here_never_serves(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    broken = break_trunk(shutil.copytree(pretraining_bundle, tmp_path / "broken"))
    with pytest.raises(AnswersWrong, match="answers otherwise on this machine") as refusal:
        load(broken)
    assert str(broken) in str(refusal.value)


def test_a_bundle_that_answers_otherwise_does_not_take_over(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(pretraining_bundle, tmp_path / pretraining_bundle.name)
    registry = load(other)
    (before,) = registry
    break_trunk(other)
    registry.reload()
    assert list(registry) == [before]
    registry.close()


def test_a_bundle_that_cannot_be_run_keeps_no_other_from_taking_over(
    folder: Folder, pretraining_bundle: Path
) -> None:
    """A head that is loaded, and whose first run raises: what else is new answers all the same."""
    (before,) = folder.registry
    threads = count_threads()
    broken = break_head(folder.add(pretraining_bundle, "second"))
    change_json(broken / "manifest.json", name="another")
    for turn in range(3):
        mark(folder.path / "first", str(turn))
        folder.reload()
        (after,) = folder.registry
        assert after is not before
        assert folder.states == [("first", "ready"), ("second", "failed")]
        assert "cannot be computed here" in str(folder.registry.list()[1].reason)
        before = after
        assert count_threads() == threads


def test_what_is_loaded_and_does_not_take_over_is_closed(
    folder: Folder, classify_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised by what is loaded after it, a bug of ours included."""
    (running,) = folder.registry
    threads = count_threads()
    mark(folder.path / "first", "changed")
    folder.add(classify_bundle, "second")
    open_pipeline = bundle_paths.open_pipeline

    def end(bundle: Bundle, *rest: Any, **named: Any) -> Pipeline:
        if bundle.path.name == "second":
            raise KeyboardInterrupt
        return open_pipeline(bundle, *rest, **named)

    monkeypatch.setattr("service.registry.registry.open_pipeline", end)
    with pytest.raises(KeyboardInterrupt):
        folder.reload()
    assert list(folder.registry) == [running]
    assert count_threads() == threads


def test_a_bundle_that_cannot_be_run_does_not_start(
    folder: Folder, pretraining_bundle: Path
) -> None:
    threads = count_threads()
    broken = break_head(folder.add(pretraining_bundle, "second"))
    change_json(broken / "manifest.json", name="another")
    with pytest.raises(BundleDamaged, match="cannot be computed here") as refusal:
        load(folder.path / "first", broken)
    assert str(broken) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert count_threads() == threads


def count_threads() -> int:
    """The threads of batchers in this process."""
    return sum(thread.name.startswith("batcher-") for thread in threading.enumerate())


@pytest.fixture
def beside(pretraining_bundle: Path, tmp_path: Path) -> Iterator[Folder]:
    """Serves one bundle that the settings name, with room for others beside it."""
    folder = Folder(tmp_path / "all", tmp_path / "all" / "first")
    folder.add(pretraining_bundle, "first")
    folder.registry.load()
    yield folder
    folder.registry.close()


def test_what_admin_loaded_from_elsewhere_stays(beside: Folder, classify_bundle: Path) -> None:
    other = beside.add(classify_bundle, "second")
    beside.load(other)
    added = beside.registry.find("tiny-classify", "classify")
    mark(beside.path / "first", "changed")
    before = beside.registry.find("tiny-pretraining", "embed")
    beside.reload()
    assert beside.names == ["tiny-pretraining", "tiny-classify"]
    assert beside.registry.find("tiny-pretraining", "embed") is not before
    assert beside.registry.find("tiny-classify", "classify") is added
    # Even if its files have changed, or are gone: only /admin looks there.
    shutil.rmtree(other)
    beside.reload()
    assert beside.registry.find("tiny-classify", "classify") is added


def test_what_admin_loaded_from_elsewhere_keeps_a_name_of_the_settings(beside: Folder) -> None:
    beside.load(mark(beside.add(beside.path / "first", "newer"), "newer"))
    (replaced,) = beside.registry
    assert replaced.pipeline.bundle.path == beside.path / "newer"
    beside.reload()
    assert list(beside.registry) == [replaced]
    # What the settings name takes its place again once /admin loads that.
    beside.load(beside.path / "first")
    beside.reload()
    assert beside.states == [("first", "ready")]


def test_what_admin_loaded_from_a_folder_of_the_settings_is_as_what_lies_there(
    folder: Folder, classify_bundle: Path
) -> None:
    folder.load(folder.add(classify_bundle, "second"))
    added = folder.registry.find("tiny-classify", "classify")
    folder.reload()
    assert folder.registry.find("tiny-classify", "classify") is added
    mark(folder.path / "second", "changed")
    folder.reload()
    assert folder.registry.find("tiny-classify", "classify") is not added
    shutil.rmtree(folder.path / "second")
    folder.reload()
    assert folder.names == ["tiny-pretraining"]


def test_what_admin_removed_comes_back_with_the_set_of_the_settings(
    folder: Folder, classify_bundle: Path
) -> None:
    folder.add(classify_bundle, "second")
    folder.reload()
    folder.registry.remove("tiny-pretraining")
    assert folder.names == ["tiny-classify"]
    folder.reload()
    assert folder.names == ["tiny-pretraining", "tiny-classify"]


def test_a_precision_that_admin_chose_stays(minilm_bundle: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "all")
    first = folder.add(minilm_bundle, "first")
    folder.registry.load()
    folder.load(first, "int8")
    mark(first, "changed")
    (before,) = folder.registry
    folder.reload()
    (after,) = folder.registry
    assert after is not before
    assert after.pipeline.precision == "int8"
    folder.registry.close()


def test_what_is_refused_is_listed_until_it_is_read_again(
    folder: Folder, classify_bundle: Path
) -> None:
    damaged = folder.add(classify_bundle, "second")
    (damaged / "tokenizer.json").write_text("{}")
    break_trunk(folder.add(classify_bundle, "third"))
    folder.reload()
    assert sorted(folder.states) == [("first", "ready"), ("second", "failed"), ("third", "failed")]
    reasons = [entry.reason for entry in folder.registry.list()]
    assert reasons[0] is None
    assert all(str(folder.path) in str(reason) for reason in reasons[1:])
    shutil.rmtree(damaged)
    shutil.rmtree(folder.path / "third")
    folder.reload()
    assert folder.states == [("first", "ready")]


def test_what_is_loaded_after_closing_never_answers(
    pretraining_bundle: Path, folder: Folder, classify_bundle: Path
) -> None:
    folder.registry.close()
    with pytest.raises(NotReady, match="shutting down"):
        folder.load(folder.add(classify_bundle, "second"))
    assert folder.names == ["tiny-pretraining"]
    registry = Registry(Settings(bundles=(pretraining_bundle,)), Metrics())
    registry.close()
    registry.load()
    assert list(registry) == []
    assert not registry.alive
