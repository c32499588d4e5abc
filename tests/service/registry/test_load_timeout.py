"""A bundle whose graphs never end is refused after a time, and others can be loaded then."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.engines.limit import ends_within
from models.errors import BundleDamaged
from models.pipeline import Pipeline
from service.registry.warm_up import warm_up
from tests.helpers.bundles import sign
from tests.helpers.checkpoints import change_json
from tests.helpers.endless import make_endless
from tests.helpers.server import serve

KEY = {"authorization": "Bearer secret"}


def make_endless_bundle(bundle: Path, target: Path, scratch: Path) -> Path:
    """The bundle with a trunk that computes as before, and for ever."""
    copy = Path(shutil.copytree(bundle, target))
    manifest = copy / "manifest.json"
    files = json.loads(manifest.read_text())["files"]
    for form in list(copy.glob("trunk.*.kernels.onnx")):
        form.unlink()
        del files[form.name]
    change_json(manifest, files=files)
    file = copy / "trunk.fp32.onnx"
    model = onnx.load(file)
    endless = onnx.load(make_endless(scratch / "endless.onnx")).graph
    graph = model.graph
    (output,) = graph.output
    inner = f"{output.name}.computed"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == output.name:
                node.output[place] = inner
    graph.initializer.extend(endless.initializer)
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    graph.node.extend(endless.node)
    graph.node.extend(
        [
            helper.make_node("ReduceSum", [endless.output[0].name], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
            helper.make_node("Add", [inner, "zero"], [output.name]),
        ]
    )
    onnx.save(model, file)
    return sign(copy, file)


def test_it_is_given_up(pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    shutil.copytree(pretraining_bundle, folder / "first")
    with serve(folder, admin_keys="secret", load_timeout_s=1.0) as server:
        path = make_endless_bundle(pretraining_bundle, folder / "endless", tmp_path)
        # Under the name of one that is there, which goes on.
        body = {"path": str(path)}
        began = time.monotonic()
        response = server.client.post("/admin/bundles", json=body, headers=KEY)
        assert time.monotonic() - began < 30
        assert response.status_code >= 400
        assert "CLOZE_LOAD_TIMEOUT_S" in response.json()["error"]["message"]
        server.answer("/v1/embeddings", {"input": "rain"})
        # The set can be changed again, and no core is busy with it.
        other = shutil.copytree(classify_bundle, folder / "second")
        response = server.client.post("/admin/bundles", json={"path": str(other)}, headers=KEY)
        assert response.status_code == 200, response.text
        spent = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - spent < 0.4


def test_what_ends_in_time_is_left_alone(pretraining_bundle: Path) -> None:
    pipeline = Pipeline.open(pretraining_bundle, threads=1)
    with ends_within(60.0, pipeline.stop, Path()):
        warm_up(pipeline)
    with pytest.raises(RuntimeError, match="its own"), ends_within(60.0, pipeline.stop, Path()):
        raise RuntimeError("its own")
    pipeline.probe()


def test_one_that_takes_too_long_is_told_so(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.open(pretraining_bundle, threads=1)
    stopped: list[float] = []
    monkeypatch.setattr(pipeline, "stop", lambda: stopped.append(time.monotonic()))

    def compute() -> None:
        while not stopped:
            time.sleep(0.005)
        raise RuntimeError("it was stopped")

    with (
        pytest.raises(BundleDamaged, match=r"within 0\.05 s"),
        ends_within(0.05, pipeline.stop, Path()),
    ):
        compute()
