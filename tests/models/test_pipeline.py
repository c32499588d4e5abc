"""The whole of it: what a bundle answers is what transformers answers, however it is batched."""

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Pipeline
from models.bundle.bundle import Bundle
from models.engines.onnx_runtime import OnnxRuntimeSession
from models.errors import (
    CallerError,
    EmptyInput,
    HeadNotFound,
    InputTooLong,
    InvalidValue,
    OperatorError,
    RunStopped,
    TaskUnsupported,
)
from models.heads import ClassifyOptions, EmbedOptions, FillMaskOptions, Job, NextSentenceOptions
from models.pipeline import form_batches, prepare
from tests.helpers.checkpoints import EACH_FAMILY, WORDS
from tests.helpers.endless import make_endless, run_until_stopped
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, pool, write_pairs, write_text, write_texts

OPTIONS: dict[str, Any] = {
    "embed": EmbedOptions(normalize=False, overflow="truncate"),
    "fill-mask": FillMaskOptions(top_k=4, overflow="truncate"),
    "next-sentence": NextSentenceOptions(overflow="truncate"),
    "classify": ClassifyOptions(function="none", overflow="truncate"),
}


def assert_near(found: Any, wanted: Any, what: str = "") -> None:
    """Equal but for rounding, which grows with the values: MobileBERT has no norms."""
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-5, err_msg=what)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_hidden_states_equal_transformers(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    texts = write_texts(40)
    found = pair.pipeline.embed(texts, normalize=False, overflow="truncate")
    wanted = np.stack([pool(pair.original.hidden(text)) for text in texts])
    assert_near(found, wanted)
    # The texts differ enough for this to mean something.
    assert np.abs(found[:, None] - found[None]).max(axis=-1)[np.triu_indices(40, 1)].min() > 1e-3


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_every_row_of_a_pair_equals_transformers(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    pairs = write_pairs(20)
    head = pair.pipeline.find_head("embed")
    jobs = [
        Job(head, item, OPTIONS["embed"], head.encoder.encode(*item, overflow="truncate"))
        for item in pairs
    ]
    for item, job in zip(pairs, jobs, strict=True):
        tokens = pair.original.tokens(item)
        assert job.encoded.ids.tolist() == tokens["input_ids"][0].tolist()
        if pair.pipeline.manifest.segments:
            assert job.encoded.type_ids.tolist() == tokens["token_type_ids"][0].tolist()
            assert 1 in job.encoded.type_ids
    for batch in form_batches(jobs):
        pair.pipeline.compute(batch)
    for item, job in zip(pairs, jobs, strict=True):
        wanted = pool(pair.original.hidden(item))
        assert_near(job.output, wanted, repr(item))


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_lengths_from_one_token_to_the_longest(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    longest = pair.pipeline.manifest.max_tokens
    assert longest == pair.original.max_tokens == 64
    source = random.Random(1)
    lists = [
        [source.randrange(7, 300) for _ in range(length)]
        for length in (1, 1, 2, 3, longest - 1, longest)
    ]
    found = pair.pipeline.embed(lists, normalize=False)
    wanted = np.stack([pool(pair.original.hidden_of_ids(ids)) for ids in lists])
    assert_near(found, wanted)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert", "mpnet"])
def test_positions_follow_padding(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    assert pair.pipeline.manifest.position_start == pair.original.tokenizer.pad_token_id + 1 == 2
    # A padding token in the text itself is not counted, as fairseq counted.
    text = "the <pad> king <pad><pad> of france"
    found = pair.pipeline.embed([text, "a", text], normalize=False)
    np.testing.assert_allclose(found[0], pool(pair.original.hidden(text)), atol=2e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(["embed", "fill-mask", "next-sentence"]),
            st.lists(st.sampled_from(WORDS[:60]), min_size=1, max_size=70),
            st.lists(st.sampled_from([*WORDS[:60], "é", "日本", "😀"]), min_size=1, max_size=40),
            st.integers(0, 70),
        ),
        min_size=1,
        max_size=16,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_answer_does_not_depend_on_who_shares_the_batch(
    pretraining: Exported, items: list[tuple[str, list[str], list[str], int]]
) -> None:
    pipeline = pretraining.pipeline

    def make_jobs() -> list[Job]:
        jobs = []
        for task, first, second, place in items:
            head = pipeline.find_head(task)
            options = head.resolve(OPTIONS[task])
            item: Any = " ".join(first)
            if task == "next-sentence":
                item = (item, " ".join(second))
            if task == "fill-mask":
                item = " ".join([*first[:place], "[MASK]", *first[place:], *second, "[MASK]"])
            jobs.append(head.prepare(item, options))
        return jobs

    together, alone = make_jobs(), make_jobs()
    pipeline.compute(together)
    for left, right in zip(together, alone, strict=True):
        pipeline.compute([right])
        if isinstance(left.output, list):
            assert len(left.output) == len(right.output)
            for (_, left_scores), (_, right_scores) in zip(left.output, right.output, strict=True):
                np.testing.assert_allclose(left_scores, right_scores, atol=1e-5)
        else:
            np.testing.assert_allclose(left.output, right.output, atol=1e-5)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_order_does_not_matter(exported: Export, family: str) -> None:
    pipeline = exported(family, "ForMaskedLM").pipeline
    texts = write_texts(24, seed=11)
    order = random.Random(3).sample(range(24), 24)
    there = pipeline.embed(texts, overflow="truncate")
    back = pipeline.embed([texts[place] for place in order], overflow="truncate")
    np.testing.assert_allclose(back, there[order], atol=1e-5)


def test_one_trunk_answers_three_tasks(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    runs: list[str] = []
    open_session, run_session = OnnxRuntimeSession.__init__, OnnxRuntimeSession.run

    def open_counted(self: OnnxRuntimeSession, file: Path, **options: Any) -> None:
        opened.append(file.name)
        open_session(self, file, **options)
        self.name = file.name  # type: ignore[attr-defined]

    def run_counted(self: OnnxRuntimeSession, feeds: Any) -> Any:
        runs.append(self.name)  # type: ignore[attr-defined]
        return run_session(self, feeds)

    monkeypatch.setattr(OnnxRuntimeSession, "__init__", open_counted)
    monkeypatch.setattr(OnnxRuntimeSession, "run", run_counted)
    pipeline = Pipeline.open(pretraining_bundle, engine="onnxruntime")
    heads = ["head.fill-mask.onnx", "head.next-sentence.onnx"]
    assert sorted(opened) == [*heads, "trunk.fp32.onnx"]
    runs.clear()
    items = {
        "embed": ["the king", "a red house"],
        "fill-mask": ["the [MASK] of france", "no [MASK] is [MASK]"],
        "next-sentence": [("the cat", "a dog"), ("it is cold", "the sea")],
    }
    jobs: list[Job] = []
    for task, texts in items.items():
        head = pipeline.find_head(task)
        jobs += prepare(head, texts, head.resolve(OPTIONS[task]))
    pipeline.compute(jobs)
    assert runs[0] == "trunk.fp32.onnx"
    assert sorted(runs[1:]) == heads
    # The answers are the ones that each task gives by itself.
    answers = [job.head.decode(job) for job in jobs]
    embedded = pipeline.embed(items["embed"], normalize=False)
    np.testing.assert_allclose(np.stack(answers[:2]), embedded, atol=1e-5)
    masks = pipeline.fill_mask([str(text) for text in items["fill-mask"]], top_k=4)
    for left, right in zip(answers[2:4], masks, strict=True):
        for one, other in zip(left, right, strict=True):
            assert [c.token_id for c in one.candidates] == [c.token_id for c in other.candidates]
    follows = pipeline.next_sentence([("the cat", "a dog"), ("it is cold", "the sea")])
    for left, right in zip(answers[4:], follows, strict=True):
        assert left.score == pytest.approx(right.score, abs=1e-5)


def test_no_texts_no_answers(pretraining: Exported, classifier: Exported) -> None:
    pipeline = pretraining.pipeline
    assert pipeline.embed([]).shape == (0, 32)
    assert pipeline.embed([], dimensions=5).shape == (0, 5)
    assert pipeline.fill_mask([]) == []
    assert pipeline.next_sentence([]) == []
    assert classifier.pipeline.classify([]) == []


def test_unknown_task_and_head(classifier: Exported, heads_bundle: Path) -> None:
    with pytest.raises(TaskUnsupported) as unsupported:
        classifier.pipeline.fill_mask(["a [MASK]"])
    assert unsupported.value.param == "model"
    assert "embed, classify" in str(unsupported.value)
    with pytest.raises(HeadNotFound) as unnamed:
        classifier.pipeline.classify(["a"], head="mood")
    assert unnamed.value.param == "head"
    pipeline = Pipeline.open(heads_bundle)
    with pytest.raises(HeadNotFound) as unknown:
        pipeline.classify(["a"], head="mood")
    assert "sentiment, topics" in str(unknown.value)
    assert pipeline.find_head("classify").entry.name == "sentiment"
    assert pipeline.find_head("classify", "topics").entry.name == "topics"


def test_vectors_of_another_kind_than_it_gives(pretraining: Exported) -> None:
    """There is nothing to leave out: who asks has named the kind by the method."""
    for ask, kind in (
        (pretraining.pipeline.embed_sparse, "sparse vectors"),
        (pretraining.pipeline.embed_tokens, "vectors of tokens"),
    ):
        with pytest.raises(TaskUnsupported) as refused:
            ask(["a"])
        assert f"gives no {kind}; it gives dense ones" in str(refused.value)
        assert "leave it out" not in str(refused.value)


def test_one_text_in_place_of_a_list(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    for ask in (pipeline.embed, pipeline.embed_windows, pipeline.fill_mask):
        with pytest.raises(InvalidValue, match=r"letter by letter; give \[text\]"):
            ask("the king of [MASK]")


def test_one_word_in_place_of_a_list(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    for ask, what, param in (
        (lambda: pipeline.words("king"), "word", "positive"),
        (lambda: pipeline.words(["king"], "queen"), "word", "negative"),
        (lambda: pipeline.similarity("a", "the king"), "text", "targets"),
        (lambda: pipeline.fill_mask(["[MASK]"], targets="ab"), "target", "targets"),
        (lambda: pipeline.zero_shot(["a"], "sea"), "label", "labels"),
        (lambda: pipeline.rerank("a", "the king"), "text", "documents"),
        (lambda: pipeline.attention("the king"), "text", None),
    ):
        with pytest.raises(InvalidValue, match=rf"letter by letter; give \[{what}\]") as refused:
            ask()
        assert refused.value.param == param


@pytest.mark.parametrize("pair", ["ab", "the king reads", ("a", "b", "c"), ("a",)])
def test_what_is_no_pair(pair: Any, pretraining: Exported, reader_bundle: Path) -> None:
    reader = Pipeline.open(reader_bundle)
    for ask in (pretraining.pipeline.next_sentence, reader.answer_questions):
        with pytest.raises(InvalidValue, match="a pair of texts is due here") as refused:
            ask([("who", "the king"), pair])
        assert refused.value.param == "inputs[1]"


def test_the_remedies_are_those_of_python_too(pretraining: Exported) -> None:
    pipeline, long = pretraining.pipeline, "king " * 100
    for ask in (lambda: pipeline.embed([long]), lambda: pipeline.embed([[5] * 65])):
        with pytest.raises(InputTooLong, match=r'have it cut: overflow "truncate"$'):
            ask()
    for pair, which in ((("", "b"), "first"), (("a", " "), "second"), (("a", "\0"), "second")):
        with pytest.raises(EmptyInput, match=f"the {which} text of the pair (is empty|has no tok)"):
            pipeline.next_sentence([pair])


def test_a_bad_item_is_named_by_its_place(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    long = "king " * 100
    cases: list[tuple[Any, str]] = [
        (lambda: pipeline.embed(["a", ""]), "empty_input"),
        (lambda: pipeline.embed(["a", "  \n"]), "empty_input"),
        (lambda: pipeline.embed(["a", []]), "empty_input"),
        (lambda: pipeline.embed(["a", [5, 344]]), "invalid_token"),
        (lambda: pipeline.embed(["a", [-1]]), "invalid_token"),
        (lambda: pipeline.embed(["a", long]), "input_too_long"),
        (lambda: pipeline.embed(["a", [5] * 65]), "input_too_long"),
        (lambda: pipeline.fill_mask(["a [MASK]", "a"]), "missing_mask"),
        (lambda: pipeline.fill_mask(["a [MASK]", ""]), "empty_input"),
        (lambda: pipeline.fill_mask(["a [MASK]", long + "[MASK]"]), "input_too_long"),
        (lambda: pipeline.next_sentence([("a", "b"), ("", "b")]), "empty_input"),
        (lambda: pipeline.next_sentence([("a", "b"), ("b", "")]), "empty_input"),
        (lambda: pipeline.next_sentence([("a", "b"), (long, long)]), "input_too_long"),
        (lambda: pipeline.embed(["a", "b\ud800"]), "invalid_value"),
    ]
    for ask, code in cases:
        with pytest.raises(CallerError) as caught:
            ask()
        assert (caught.value.code, caught.value.param) == (code, "inputs[1]")


def test_batches_keep_order_and_bound(pretraining: Exported) -> None:
    head = pretraining.pipeline.find_head("embed")
    texts = [write_text(random.Random(length), length) for length in (60, 3, 1, 30, 30, 2, 61, 5)]
    jobs = prepare(head, texts, head.resolve(OPTIONS["embed"]))
    batches = list(form_batches(jobs, max_tokens=64))
    assert [job for batch in batches for job in batch] == jobs
    assert [len(batch) for batch in batches] == [1, 3, 2, 1, 1]
    for batch, after in zip(batches, [*batches[1:], None], strict=True):
        tokens = sum(job.tokens for job in batch)
        assert tokens <= 64 or len(batch) == 1
        assert after is None or tokens + after[0].tokens > 64
    assert list(form_batches([])) == []
    assert [len(batch) for batch in form_batches(jobs, max_tokens=1)] == [1] * 8


def test_precision_is_checked(pretraining_bundle: Path) -> None:
    with pytest.raises(OperatorError, match="no precision 'int8', only fp32"):
        Pipeline.open(pretraining_bundle, precision="int8")
    assert Pipeline.open(pretraining_bundle, precision="fp32").precision == "fp32"


def test_a_task_of_a_later_version_is_left_out(pretraining_bundle: Path) -> None:
    from models.bundle.bundle import Bundle

    bundle = Bundle.open(pretraining_bundle)
    later = bundle.manifest.heads[1].model_copy(update={"task": "translate"})
    manifest = bundle.manifest.model_copy(
        update={"heads": (bundle.manifest.heads[0], later, bundle.manifest.heads[2])}
    )
    pipeline = Pipeline(Bundle(bundle.path, manifest))
    assert [head.task.name for head in pipeline.heads] == ["embed", "next-sentence"]
    assert pipeline.embed(["a"]).shape == (1, 32)


def test_a_computation_is_stopped_in_the_trunk_and_in_a_head(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline.open(pretraining_bundle)
    pairs = [("one", "two")]
    wanted = pipeline.next_sentence(pairs)
    trunk = pipeline.trunk
    endless = OnnxRuntimeSession(make_endless(tmp_path / "loop.onnx"), threads=1)
    pipeline.trunk = endless
    error = run_until_stopped(lambda: pipeline.next_sentence(pairs), pipeline.stop)
    assert type(error) is RunStopped
    pipeline.trunk = trunk
    assert pipeline.next_sentence(pairs) == wanted
    head = pipeline.find_head("next-sentence")
    assert head.entry.file is not None
    head._session = pipeline._sessions[head.entry.file] = endless
    error = run_until_stopped(lambda: pipeline.next_sentence(pairs), pipeline.stop)
    assert type(error) is RunStopped


def test_loading_anew_that_hangs_changes_nothing_once_it_is_followed(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.open(pretraining_bundle)
    wanted = pipeline.embed(["one"])
    entered, let_go = threading.Event(), threading.Event()
    slow = threading.Thread(target=lambda: raised.append(fail_to_reopen(pipeline)))
    raised: list[str] = []
    open_bundle = Bundle.open

    def open_slowly(path: Path) -> Bundle:
        if threading.current_thread() is slow:
            entered.set()
            assert let_go.wait(60)
        return open_bundle(path)

    monkeypatch.setattr("models.pipeline.Bundle.open", open_slowly)
    slow.start()
    assert entered.wait(60)
    pipeline.reopen()
    session = pipeline.trunk._session
    let_go.set()
    slow.join()
    assert raised == ["another call loads the graphs anew"]
    assert pipeline.trunk._session is session
    assert_near(pipeline.embed(["one"]), wanted)


def fail_to_reopen(pipeline: Pipeline) -> str:
    with pytest.raises(RunStopped) as stopped:
        pipeline.reopen()
    return str(stopped.value)
