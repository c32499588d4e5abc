"""The engine OpenVINO: as exact as the plain one, and chosen only where it is the fastest.

In a run of their own, `make test` starts it: an engine that is installed is tried at every start.
"""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="not in the path: make test runs these with it")

from models import Pipeline
from models.bundle.bundle import Bundle
from models.choice import Choice, choose_engine, list_candidates, list_choices
from models.contest import choose_fastest
from models.engines.openvino import OpenVinoSession, has_half
from models.errors import BundleDamaged, RunStopped
from models.families import FAMILIES as ROWS
from models.golden import check_golden
from service.__main__ import main
from tests.helpers.checkpoints import FAMILIES, in_turn
from tests.helpers.fixtures import Export
from tests.helpers.oracle import write_texts
from tests.helpers.process import start_service
from tests.helpers.results import record_engine

TEXTS = write_texts(24, seed=17)
# To the plain engine's in the same precision: in fp16 that rounds where this computes in fp32, and
# in int8 a byte may come out the next one.
NEAR = {"fp32": 2e-5, "fp16": 5e-3, "int8": 5e-3}
needs_half = pytest.mark.skipif(not has_half(), reason="no units for products in bfloat16")


def embed(bundle: Bundle, precision: str, engine: str = "openvino") -> np.ndarray:
    pipeline = Pipeline(bundle, precision=precision, engine=engine, threads=2)
    assert pipeline.choice.engine == engine
    found: np.ndarray = pipeline.embed(TEXTS, overflow="truncate")
    return found


@pytest.mark.parametrize("family", in_turn(FAMILIES, ("bert", "deberta-v2")))
def test_a_family(family: str, exported: Export) -> None:
    """Every precision against the plain engine's, and the golden answers of all tasks."""
    bundle = Bundle.open(exported(family, "ForMaskedLM").bundle)
    found: dict[str, tuple[float, float]] = {}
    wanted = embed(bundle, "fp32", "onnxruntime")
    for precision in bundle.manifest.precisions:
        near = embed(bundle, precision, "onnxruntime")
        vectors = embed(bundle, precision)
        np.testing.assert_allclose(vectors, near, atol=NEAR[precision])
        cosines = (vectors * wanted).sum(axis=1)
        found[precision] = float(np.abs(vectors - wanted).max()), float(cosines.min())
        check_golden(Pipeline(bundle, precision=precision, engine="openvino", threads=2))
    assert ROWS[family].name == bundle.manifest.family
    record_engine(family, "openvino", found)


@needs_half
def test_bf16_is_computed_of_the_weights_in_fp32(minilm_bundle: Path, tmp_path: Path) -> None:
    """Of a bundle that has that precision: never by itself."""
    bundle = Bundle.open(minilm_bundle)
    precisions = (*bundle.manifest.precisions, "bf16")
    bundle = Bundle(bundle.path, bundle.manifest.model_copy(update={"precisions": precisions}))
    assert choose_engine(bundle, "bf16", "openvino").trunk == "trunk.fp32.onnx"
    wanted = embed(bundle, "fp32", "onnxruntime")
    cosines = (embed(bundle, "bf16") * wanted).sum(axis=1)
    assert 0.9995 < cosines.min() < 0.9999999
    assert (embed(bundle, "fp32") * wanted).sum(axis=1).min() > 0.999999


def open_session(bundle: Path) -> OpenVinoSession:
    return OpenVinoSession(bundle / "trunk.fp32.onnx", threads=2)


def make_feeds(bundle: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """What the trunk is asked with for them."""
    pipeline = Pipeline.open(bundle, engine="onnxruntime", threads=1)
    encoded = [pipeline.encoder.encode(text, overflow="truncate") for text in texts]
    kept = {}

    class Listening:
        def run(self, feeds: dict[str, np.ndarray]) -> None:
            kept.update(feeds)

    pipeline.trunk = Listening()  # type: ignore[assignment]
    pipeline.run_trunk(encoded)
    return kept


def test_a_run_is_stopped_and_later_ones_work(minilm_bundle: Path) -> None:
    session = open_session(minilm_bundle)
    feeds = make_feeds(minilm_bundle, ["the quick brown fox jumps over the dog " * 30] * 24)
    wanted = session.run(feeds).whole()
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(session.run(feeds))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    began = time.monotonic()
    while thread.is_alive() and time.monotonic() - began < 60:
        session.stop()
        time.sleep(0.001)
    thread.join()
    assert isinstance(outcome[0], RunStopped), outcome
    np.testing.assert_array_equal(session.run(feeds).whole(), wanted)


def test_threads_and_shapes_do_not_disturb_each_other(minilm_bundle: Path) -> None:
    """Later runs change nothing of an output; a larger batch may follow a smaller one."""
    session = open_session(minilm_bundle)
    several = [make_feeds(minilm_bundle, TEXTS[:count]) for count in (1, 9, 3, 24)]
    wanted = [session.run(feeds).whole() for feeds in several]
    copies = [each.copy() for each in wanted]
    wrong: list[object] = []

    def ask(place: int) -> None:
        for turn in range(8):
            which = (place + turn) % len(several)
            found = session.run(several[which]).whole()
            if np.abs(found - copies[which]).max() > 1e-5:
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for found, copy in zip(wanted, copies, strict=True):
        np.testing.assert_array_equal(found, copy)


def test_a_graph_is_loaded_anew_and_a_damaged_one_refused(
    minilm_bundle: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(minilm_bundle / "trunk.fp32.onnx", tmp_path))
    session = OpenVinoSession(file, threads=1)
    assert (session.width, session.threads, session.spin) == (384, 1, False)
    feeds = make_feeds(minilm_bundle, TEXTS[:2])
    wanted = session.run(feeds).whole()
    session.reopen()
    np.testing.assert_array_equal(session.run(feeds).whole(), wanted)
    file.write_bytes(file.read_bytes()[: 1 << 20])
    with pytest.raises(BundleDamaged, match=r"trunk.fp32.onnx cannot be loaded by OpenVINO"):
        session.reopen()


def test_it_takes_part_where_it_is_installed(minilm_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(minilm_bundle)
    candidates = list_candidates(bundle, "fp32")
    assert [each.engine for each in candidates][1:] == ["openvino"]
    assert ("int8", "openvino") in list_choices(bundle, ("openvino",))
    assert all(engine != "openvino" for _, engine in list_choices(bundle))
    found, held = choose_fastest(bundle, "fp32", candidates, folder=tmp_path)
    assert held is not None
    assert set(held.speeds) == {each.engine for each in candidates}
    assert isinstance(found, Choice)


def test_a_service_serves_by_it(pretraining_bundle: Path, tmp_path: Path) -> None:
    given = {"CLOZE_BUNDLES": str(pretraining_bundle), "CLOZE_CACHE_DIR": str(tmp_path)}
    body = {"inputs": ["the king of [MASK]"]}
    answers = []
    for engine in ("openvino", "onnxruntime", "auto"):
        with start_service(**given, CLOZE_ENGINE=engine) as (_, client):
            (model,) = client.get("/v1/models").json()["data"]
            if engine != "auto":
                assert model["engine"] == engine
                assert model["engine_reason"] == "it was asked for"
            else:
                assert "openvino" in model["engine_reason"]
            answers.append(client.post("/v1/fill-mask", json=body).raise_for_status().json())
    scores = [
        [each["score"] for each in answer["results"][0]["masks"][0]["candidates"]]
        for answer in answers
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_command_tells_what_it_reaches(
    pretraining_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOZE_ENGINE", "onnxruntime")
    assert main(["--engines", "--bundle", str(pretraining_bundle)]) == 0
    told = capsys.readouterr().out
    assert "openvino     2" in told
    assert "  fp32  openvino " in told
