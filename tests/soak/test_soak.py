"""The soak: nothing lost, nothing wrong, every kind of damage seen; and that it can fail."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from tests.soak.asks import Answered, Ask, Poisoned
from tests.soak.bundles import MAIN, Bundles
from tests.soak.client import Reply
from tests.soak.comparison import Ranking, find_difference
from tests.soak.corpus import Corpus, make_corpus
from tests.soak.judgement import Circumstances, Outcome, judge
from tests.soak.kinds import Kind, Known, Refused
from tests.soak.soak import Plan, list_leftovers, soak
from tests.soak.storm import find_fault, find_fingerprint
from tests.soak.tasks import classify

QUIET = Circumstances(seconds=0.1)
STORM = Circumstances(seconds=0.1, replacing=True, full=True, texts=100)


def test_nothing_is_lost_or_wrong_while_everything_is_damaged() -> None:
    report = soak(Plan(seconds=15.0, rate=30.0, name="soak-test"))
    assert report.tally.failures == []
    assert report.problems == []  # among them each kind of damage that was not seen
    assert report.passed
    assert report.tally.sent == sum(report.tally.outcomes.values())
    assert report.tally.outcomes[Outcome.RIGHT] > 0


def test_wrong_answers_are_found() -> None:
    """With known answers that are those of other items, all that is answered is wrong."""

    def mix_up(bundles: Bundles, chance: random.Random) -> Corpus:
        kind = next(each for each in make_corpus(bundles, chance).kinds if each.name == "embed")
        (known,) = kind.versions
        answers = [each.answer for each in known]
        moved = [
            replace(each, answer=answer)
            for each, answer in zip(known, [*answers[1:], answers[0]], strict=True)
        ]
        return Corpus([replace(kind, versions=[moved])], "")

    report = soak(Plan(seconds=0.5, rate=10.0, calm=True, name="soak-wrong"), mix_up)
    assert not report.passed
    assert report.tally.outcomes[Outcome.WRONG] >= 2
    assert report.tally.outcomes[Outcome.RIGHT] == 0
    failure = report.tally.failures[0]
    assert "embedding is off by" in failure["reason"]
    assert failure["log"]


@pytest.mark.parametrize("told", ["0123456789abcdef", "0123456789abcdef-fp32-kernels"])
def test_a_damaged_session_is_known_by_its_bundle_whatever_engine_runs_it(told: str) -> None:
    listing = orjson.dumps(
        {"data": [{"id": "a", "fingerprint": "f"}, {"id": "b", "fingerprint": told}]}
    )
    assert find_fingerprint(listing, "b") == "0123456789abcdef"


FAULT = '{"event": "soak: killed", "done": true, "model": "%s", "fingerprint": "f"}'
OTHER_LINE = '{"event": "request", "status": 200}'


@pytest.mark.parametrize(
    ("lines", "model", "unread"),
    [
        ([], None, 0),
        ([OTHER_LINE, '{"event": "soak: let go"}'], None, 0),
        ([FAULT % "a", FAULT % "b", OTHER_LINE], "b", 0),
        # Lines that met in one, and a line that is not whole.
        ([OTHER_LINE + FAULT % "a"], "a", 0),
        ([FAULT % "a" + OTHER_LINE], "a", 0),
        (['{"event": "soak: let go"}' + FAULT % "a" + FAULT % "b"], "b", 0),
        (['{"event": "req' + FAULT % "a" + 'uest"}'], "a", 0),
        ([FAULT % "a", '{"event": "soak: killed", "done": true, "model'], "a", 1),
        (['{"event": "soak: killed", "done": true}'], None, 1),
        (['"done": true'], None, 1),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_passed_over(
    lines: list[str], model: str | None, unread: int
) -> None:
    told: set[str] = set()
    fault = find_fault(lines, told)
    assert (fault and fault["model"]) == model
    assert len(told) == unread


@pytest.fixture
def ask() -> Ask:
    known = [
        Known("rain", {"labels": Ranking(1, [score("good", 0.9), score("bad", 0.1)])}, 3),
        Known("snow", {"labels": Ranking(1, [score("bad", 0.50001), score("good", 0.49999)])}, 4),
    ]
    kind = Kind("classify", classify.PATH, MAIN, {"top_k": 1}, [known])
    body = orjson.dumps(kind.body([0, 1], named=False))
    return Ask("soak-1", Answered(kind, [0, 1]), classify.PATH, body, texts=2)


def score(label: str, value: float) -> dict[str, Any]:
    return {"label": label, "score": value}


def answer(*labels: dict[str, Any], tokens: int = 7, status: int = 200) -> Reply:
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    results = [{"labels": [label]} for label in labels]
    return Reply(status, {}, orjson.dumps({"model": MAIN, "results": results, "usage": usage}))


def refusal(status: int, code: str, kind: str, param: str | None = None, after: str = "1") -> Reply:
    error = {"message": "no", "type": f"{kind}_error", "code": code, "param": param}
    headers = {"retry-after": after} if after else {}
    return Reply(status, headers, orjson.dumps({"error": error}))


OVERLOADED = (429, "overloaded", "overloaded")
NOT_READY = (503, "not_ready", "unavailable")
LATE = (504, "deadline_passed", "timeout")
INTERNAL = (500, "internal_error", "server")


def test_an_answer_is_right_up_to_rounding_and_ties(ask: Ask) -> None:
    good, tie = score("good", 0.90001), score("good", 0.49999)
    assert judge(ask, answer(good, score("bad", 0.50001)), QUIET).outcome is Outcome.RIGHT
    # Which of two equals is best may differ; what is off by more may not.
    assert find_difference([score("a", 0.5)], [score("a", 0.501)]) is not None
    assert judge(ask, answer(good, tie), QUIET).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "reply",
    [
        answer(score("bad", 0.5), score("good", 0.9)),
        answer(score("good", 0.9)),
        answer(score("good", 0.8), score("bad", 0.5)),
        answer(score("bad", 0.9), score("bad", 0.5)),
        answer(score("good", 0.9), score("bad", 0.5), tokens=8),
        Reply(200, {}, b"{"),
        refusal(*INTERNAL),
        refusal(*OVERLOADED, after=""),
        refusal(*OVERLOADED, after="0"),
        refusal(*NOT_READY, after=""),
        refusal(*LATE),
        refusal(422, "empty_input", "invalid_request"),
        refusal(429, "overloaded", "server"),
        Reply(503, {"retry-after": "1"}, b'{"detail": "no"}'),
    ],
)
def test_what_is_wrong_is_wrong_in_any_storm(ask: Ask, reply: Reply) -> None:
    late = replace(ask, timeout_s=2.0)
    assert judge(late, reply, STORM).outcome is Outcome.WRONG


@pytest.mark.parametrize("reply", [refusal(*OVERLOADED), refusal(*NOT_READY)])
def test_a_refusal_is_proper_only_where_it_is_due(ask: Ask, reply: Reply) -> None:
    assert judge(ask, reply, QUIET).outcome is Outcome.WRONG
    assert judge(ask, reply, STORM).outcome is Outcome.REFUSED


def test_a_passed_deadline_is_proper_and_a_minute_in_vain_is_a_loss(ask: Ask) -> None:
    waited = replace(QUIET, seconds=2.01)
    assert judge(replace(ask, timeout_s=2.0), refusal(*LATE), waited).outcome is Outcome.REFUSED
    minute = replace(STORM, seconds=60.1)
    assert judge(ask, refusal(*LATE), minute).outcome is Outcome.LOST


def test_poison_and_bad_requests_must_be_refused_as_such(ask: Ask) -> None:
    poisoned = replace(ask, expected=Poisoned("inputs[1]"))
    assert judge(poisoned, refusal(*INTERNAL, "inputs[1]"), QUIET).outcome is Outcome.REFUSED
    assert judge(poisoned, refusal(*INTERNAL, "inputs[0]"), QUIET).outcome is Outcome.WRONG
    bad = replace(ask, expected=Refused(422, "empty_input"))
    refused = refusal(422, "empty_input", "invalid_request", "inputs[0]")
    assert judge(bad, refused, QUIET).outcome is Outcome.REFUSED
    other = refusal(422, "missing_mask", "invalid_request")
    assert judge(bad, other, QUIET).outcome is Outcome.WRONG
    fine = answer(score("good", 0.9), score("bad", 0.5))
    for each in (poisoned, bad):
        assert judge(each, fine, QUIET).outcome is Outcome.WRONG


def test_an_answer_of_another_request_or_version_is_wrong(ask: Ask) -> None:
    right = answer(score("good", 0.9), score("bad", 0.50001))
    swapped = Reply(200, {"x-request-id": "soak-2"}, right.body)
    assert judge(ask, swapped, QUIET).outcome is Outcome.WRONG
    assert isinstance(ask.expected, Answered)
    (known,) = ask.expected.kind.versions
    other = [replace(known[0], answer={"labels": Ranking(1, [score("bad", 1.0)])}), known[1]]
    kind = replace(ask.expected.kind, versions=[other, known])
    newer = replace(ask, expected=Answered(kind, [0, 1]))
    assert judge(newer, right, QUIET).outcome is Outcome.WRONG
    either = replace(QUIET, versions=frozenset({0, 1}))
    assert judge(newer, right, either).outcome is Outcome.RIGHT


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["models"][0].update({name: value})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change("queued_texts", 2), "queued_texts is 2"),
        (change("stuck", 1), "stuck is 1"),
        (change("state", "failed"), "is failed"),
        (lambda found: found["models"].append(found["models"][0]), "not let go of"),
        (lambda found: found["threads"].append("batcher-old"), "batcher-old"),
    ],
)
def test_leftovers_are_told(damage: Callable[[dict[str, Any]], None], said: str) -> None:
    empty = {"requests": 0, "queued_texts": 0, "queued_s": 0.0, "stuck": 0}
    found = {"models": [{"name": "one", "state": "running", **empty}], "threads": ["batcher-one"]}
    metrics = ['cloze_queued_texts{model="one"} 0.0', 'cloze_queue_seconds_bucket{le="1"} 5.0']
    assert list_leftovers(found, metrics) == []
    assert len(list_leftovers(found, ['cloze_queued_texts{model="one"} 1.0'])) == 1
    damage(found)
    assert any(said in each for each in list_leftovers(found, metrics))
