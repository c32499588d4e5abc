"""Answer: spans, scores and offsets of the pipeline that transformers 4 had for it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Pipeline
from models.errors import CallerError, InternalError
from models.heads import AnswerOptions, Span
from models.pipeline import form_batches, prepare
from models.text.truncation import MAX_WINDOWS
from tests.helpers.checkpoints import EACH_READER, WORDS, add_head, make_checkpoint
from tests.helpers.fixtures import Export
from tests.helpers.oracle import ODD_WORDS, Asked, Exported, write_contexts
from tests.helpers.store import Store

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"top_k": 4},
    {"top_k": 3, "impossible": True},
    {"align_to_words": False, "max_answer_tokens": 3},
    {"top_k": 5, "doc_stride": 7, "max_answer_tokens": 40},
    {"top_k": 2, "doc_stride": 0, "impossible": True, "align_to_words": False},
)
THEIR_NAMES = {"impossible": "handle_impossible_answer", "max_answer_tokens": "max_answer_len"}
QUESTION = "who is the king?"


@pytest.fixture(params=EACH_READER)
def model(request: pytest.FixtureRequest, exported_head: Export) -> Exported:
    return exported_head(request.param, "ForQuestionAnswering")


@pytest.fixture
def bert(exported: Export) -> Exported:
    return exported("bert", "ForQuestionAnswering")


def write_questions(count: int, longest: int, seed: int) -> list[tuple[str, str]]:
    source = random.Random(seed)
    return [
        (" ".join(source.choices(WORDS + ODD_WORDS, k=source.randint(1, 3))), context)
        for context in write_contexts(count, longest, seed)
    ]


def compare(found: list[Span], wanted: list[dict[str, Any]]) -> None:
    assert [(span.answer, span.start, span.end) for span in found] == [
        (row["answer"], row["start"], row["end"]) for row in wanted
    ]
    np.testing.assert_allclose(
        [span.score for span in found], [row["score"] for row in wanted], atol=2e-5
    )


def count_windows(pipeline: Pipeline, question: str, context: str, **options: Any) -> int:
    head = pipeline.find_head("answer")
    return 1 + len(head.prepare((question, context), AnswerOptions(**options)).more)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_to_the_pipeline_of_transformers_4(model: Exported, options: Any) -> None:
    oracle = Asked(model.original)
    pairs = write_questions(54, longest=60, seed=61)
    theirs = {THEIR_NAMES.get(name, name): value for name, value in options.items()}
    found = model.pipeline.answer_questions(pairs, **options)
    for pair, spans in zip(pairs, found, strict=True):
        compare(spans, oracle.answer(*pair, **theirs))
        assert all(span.answer == pair[1][span.start : span.end] for span in spans)
    windows = [count_windows(model.pipeline, *pair) for pair in pairs]
    assert 1 in windows
    assert max(windows) > 2


def test_windows_are_those_of_transformers(model: Exported) -> None:
    oracle = Asked(model.original)
    head = model.pipeline.find_head("answer")
    for stride in (None, 0, 1, 30):
        for question, context in write_questions(6, longest=80, seed=62):
            job = head.prepare((question, context), AnswerOptions(doc_stride=stride))
            wanted = oracle.windows(question, context, stride)
            assert len(wanted) == 1 + len(job.more)
            for window, (encoding, _, _) in zip((job, *job.more), wanted, strict=True):
                origins = window.encoded.origins
                assert origins is not None
                assert window.encoded.ids.tolist() == encoding.ids
                if model.pipeline.manifest.segments:
                    assert window.encoded.type_ids.tolist() == encoding.type_ids
                assert [tuple(pair) for pair in origins.offsets.tolist()] == encoding.offsets
                for mine, theirs in (
                    (origins.texts, encoding.sequence_ids),
                    (origins.words, encoding.word_ids),
                ):
                    assert mine.tolist() == [-1 if one is None else one for one in theirs]


def test_an_answer_does_not_depend_on_who_shares_the_batch(bert: Exported) -> None:
    pipeline = bert.pipeline
    pairs = write_questions(12, longest=80, seed=63)
    together = pipeline.answer_questions(pairs, top_k=3)
    alone = [pipeline.answer_questions([pair], top_k=3)[0] for pair in pairs]
    for left, right in zip(together, alone, strict=True):
        assert [(span.start, span.end) for span in left] == [(s.start, s.end) for s in right]
        np.testing.assert_allclose([s.score for s in left], [s.score for s in right], atol=1e-5)


def test_every_window_counts_in_a_batch(bert: Exported) -> None:
    from models.heads import spread

    head = bert.pipeline.find_head("answer")
    jobs = prepare(head, [(QUESTION, "the king " * 300)] * 2, AnswerOptions())
    sequences = spread(jobs)
    assert len(sequences) == 2 * (1 + len(jobs[0].more)) > 40
    assert all(job.tokens <= 64 for job in sequences)
    batches = list(form_batches(sequences, max_tokens=200))
    assert max(sum(job.tokens for job in batch) for batch in batches) <= 200
    assert [job for batch in batches for job in batch] == sequences


def fill(bert: Exported, item: tuple[str, str], logits: Any, **options: Any) -> list[Span]:
    """What the head answers where the logits of its only window are these."""
    head = bert.pipeline.find_head("answer")
    job = head.prepare(item, head.resolve(AnswerOptions(**options)))
    job.output = np.array(logits, np.float32)
    assert job.more == ()
    spans: list[Span] = head.decode(job)
    return spans


def test_equal_scores_come_in_the_order_of_the_context(bert: Exported) -> None:
    # [CLS] king [SEP] the red house is old [SEP]
    even = np.zeros((9, 2))
    spans = fill(bert, ("king", "the red house is old"), even, top_k=4, max_answer_tokens=2)
    assert [span.answer for span in spans] == ["the", "the red", "red", "red house"]
    assert {round(span.score, 6) for span in spans} == {round(1 / 36, 6)}


def test_equal_texts_are_one_answer(bert: Exported) -> None:
    even = np.zeros((7, 2))
    spans = fill(bert, ("king", "Red red RED"), even, top_k=9, max_answer_tokens=1)
    assert spans == [Span("Red", pytest.approx(3 / 16), 0, 3)]


def test_the_impossible_answer_is_the_first_token(bert: Exported) -> None:
    item = ("king", "red house")
    logits = np.zeros((6, 2))
    logits[0] = 9
    [best] = fill(bert, item, logits, impossible=True)
    assert (best.answer, best.start, best.end) == ("", 0, 0)
    assert best.score > 0.99
    [best] = fill(bert, item, logits)
    assert best.answer
    assert best.score < 1e-3
    # However sure it is, what can be answered is told in order.
    logits[0] = 90
    logits[4] = 2
    [best] = fill(bert, item, logits)
    assert best.answer == "house"


def test_a_span_lies_in_the_context(bert: Exported) -> None:
    """Neither the question nor a special token that it spells can be an answer."""
    logits = np.zeros((7, 2))
    logits[1:4] = 20
    item = ("[CLS] king [SEP]", "red")
    [span] = fill(bert, item, logits)
    assert (span.answer, span.start, span.end) == ("red", 0, 3)


def test_spans_are_widened_to_words(bert: Exported) -> None:
    # [CLS] king [SEP] walk ##ing slow ##ness [SEP]
    logits = np.zeros((8, 2))
    logits[4, 0] = logits[5, 1] = 9
    item = ("king", "walking slowness")
    assert fill(bert, item, logits)[0].answer == "walking slowness"
    assert fill(bert, item, logits, align_to_words=False)[0].answer == "ing slow"


def test_more_is_asked_for_than_there_is(model: Exported) -> None:
    [spans] = model.pipeline.answer_questions([("king", "cat")], top_k=50)
    assert [(span.answer, span.start, span.end) for span in spans] == [("cat", 0, 3)]
    [spans] = model.pipeline.answer_questions([("king", "cat")], top_k=50, impossible=True)
    assert len(spans) == 2


def test_a_question_that_leaves_no_room_is_refused_or_cut(model: Exported) -> None:
    pair = ("king " * 80, "the red house " * 40)
    with pytest.raises(CallerError) as caught:
        model.pipeline.answer_questions([(QUESTION, "a"), pair])
    assert (caught.value.code, caught.value.param) == ("input_too_long", "inputs[1]")
    [[span]] = model.pipeline.answer_questions([pair], overflow="truncate")
    assert span.answer == pair[1][span.start : span.end] != ""
    head = model.pipeline.find_head("answer")
    job = head.prepare(pair, AnswerOptions(overflow="truncate"))
    assert all(window.encoded.truncated for window in (job, *job.more))
    assert all(window.tokens <= 64 for window in (job, *job.more))


def test_a_question_that_leaves_little_room_is_answered(bert: Exported) -> None:
    """Less than the usual overlap, where transformers 4 failed: windows overlap by half."""
    pair = ("king " * 50, "the red house " * 10)
    [[span]] = bert.pipeline.answer_questions([pair])
    assert span.answer == pair[1][span.start : span.end] != ""
    head = bert.pipeline.find_head("answer")
    job = head.prepare(pair, AnswerOptions())
    # 64 tokens, less 3 special ones and the question, leave 11: a step of 6.
    assert len(job.more) == 4
    with pytest.raises(CallerError, match="an overlap of 11 tokens is not less than the 11"):
        bert.pipeline.answer_questions([pair], doc_stride=11)


def test_a_context_of_too_many_windows_is_refused_or_cut(bert: Exported) -> None:
    pair = ("king " * 60, "the red house " * (MAX_WINDOWS // 3 + 2))
    with pytest.raises(CallerError, match="at most 1024 are read") as caught:
        bert.pipeline.answer_questions([pair])
    assert (caught.value.code, caught.value.param) == ("input_too_long", "inputs[0]")
    head = bert.pipeline.find_head("answer")
    job = head.prepare(pair, AnswerOptions(overflow="truncate"))
    assert len(job.more) == MAX_WINDOWS - 1
    assert job.encoded.truncated
    # A long context is no reason to refuse or to cut.
    long = head.prepare((QUESTION, "the red house " * 500), AnswerOptions())
    assert len(long.more) > 50
    assert not long.encoded.truncated


def test_an_empty_text_is_named(bert: Exported) -> None:
    for pair in (("", "a"), ("a", ""), ("a", "\u200b "), (" ", " ")):
        with pytest.raises(CallerError) as caught:
            bert.pipeline.answer_questions([(QUESTION, "the king"), pair])
        assert (caught.value.code, caught.value.param) == ("empty_input", "inputs[1]")
    with pytest.raises(CallerError) as caught:
        bert.pipeline.answer_questions([(QUESTION, "a \ud800")])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "inputs[0]")
    assert bert.pipeline.answer_questions([]) == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"top_k": 0}, "top_k"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
        ({"doc_stride": -1}, "doc_stride"),
        ({"doc_stride": 64}, "doc_stride"),
    ],
)
def test_numbers_that_leave_nothing_are_refused(bert: Exported, options: Any, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        bert.pipeline.answer_questions([(QUESTION, "the king")], **options)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


def test_a_job_of_another_kind_is_a_bug_of_ours(bert: Exported) -> None:
    head = bert.pipeline.find_head("answer")
    job = head.prepare(("a", "b"), AnswerOptions())
    job.encoded = head.encoder.encode("a", "b", overflow="error")
    with pytest.raises(InternalError, match="without its origins"):
        head.decode(job)


def test_heads_by_name(tmp_path: Path, exports: Store) -> None:
    source = make_checkpoint(tmp_path / "source", "roberta", "RobertaForMaskedLM")
    for number, name in enumerate(("long", "short")):
        add_head(source, name, "RobertaForQuestionAnswering", seed=number)
    pipeline = Pipeline.open(exports.export(source, "answers"))
    pair = (QUESTION, "the king of france is cold")
    answers = [pipeline.answer_questions([pair], head=name) for name in ("long", "short")]
    assert answers[0] != answers[1]
    assert pipeline.answer_questions([pair]) == answers[0]


def test_a_tie_on_another_machine_is_no_difference(reader_bundle: Path) -> None:
    """Two spans that are equally likely may change places."""
    head = Pipeline.open(reader_bundle).find_head("answer")
    spans = [Span("king", 0.3, 0, 4), Span("queen", 0.2, 5, 10)]
    wanted = [{"score": 0.3, "start": 0, "end": 4}, {"score": 0.2, "start": 0, "end": 10}]
    assert head.difference(spans, wanted) == 0.0
