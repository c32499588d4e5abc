"""The golden answers are the original's, and what the bundle answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Pipeline


@pytest.mark.parametrize("name", ["pretraining", "heads", "minilm"])
def test_golden_answers_are_what_the_bundle_answers(
    request: pytest.FixtureRequest, name: str
) -> None:
    pipeline = Pipeline.open(request.getfixturevalue(f"{name}_bundle"))
    golden = json.loads(pipeline.bundle.file("golden.json").read_text())
    assert golden["format_version"] == 1
    heads = [(head.task.name, head.entry.name) for head in pipeline.heads]
    assert [(task["task"], task["head"]) for task in golden["tasks"]] == heads
    for task in golden["tasks"]:
        cases = task["cases"]
        places = [place for batch in task["batches"] for place in batch]
        assert sorted(places) == list(range(len(cases)))
        assert len(cases) == 24
        assert max(map(len, task["batches"])) > 4
        items = [case["input"] for case in cases]
        answers = [case["answer"] for case in cases]
        match task["task"]:
            case "embed":
                np.testing.assert_allclose(pipeline.embed(items), answers, atol=1e-5)
            case "fill-mask":
                for masks, wanted in zip(pipeline.fill_mask(items), answers, strict=True):
                    assert len(masks) == len(wanted)
                    for mask, row in zip(masks, wanted, strict=True):
                        found = {c.token_id: c.score for c in mask.candidates}
                        assert found == pytest.approx(
                            dict(zip(row["token_ids"], row["scores"], strict=True)), abs=1e-5
                        )
            case "next-sentence":
                found = [answer.score for answer in pipeline.next_sentence(items)]
                np.testing.assert_allclose(found, answers, atol=1e-5)
            case "classify":
                texts = [item if isinstance(item, str) else tuple(item) for item in items]
                labels = pipeline.find_head("classify", task["head"]).entry.labels or ()
                for row, wanted in zip(
                    pipeline.classify(texts, head=task["head"]), answers, strict=True
                ):
                    scores = {one.label: one.score for one in row}
                    np.testing.assert_allclose([scores[x] for x in labels], wanted, atol=1e-5)


def test_golden_entities_and_spans_are_what_the_bundle_answers(reader_bundle: Path) -> None:
    pipeline = Pipeline.open(reader_bundle)
    golden = json.loads(pipeline.bundle.file("golden.json").read_text())
    tasks = {task["task"]: task["cases"] for task in golden["tasks"]}
    assert [len(cases) for cases in tasks.values()] == [24, 24, 24]
    pairs = [tuple(case["input"]) for case in tasks["answer"]]
    texts = [case["input"] for case in tasks["token-classify"]]
    spans = pipeline.answer_questions(pairs, top_k=5, impossible=True)
    check_parts(spans, tasks["answer"], ("answer", "start", "end"))
    entities = pipeline.token_classify(texts, ignore_labels=())
    check_parts(entities, tasks["token-classify"], ("label", "word", "start", "end", "index"))


def check_parts(found: Any, cases: Any, names: tuple[str, ...]) -> None:
    for parts, rows in zip(found, [case["answer"] for case in cases], strict=True):
        assert [[getattr(part, name) for name in names] for part in parts] == [
            [row[name] for name in names] for row in rows
        ]
        np.testing.assert_allclose(
            [part.score for part in parts], [row["score"] for row in rows], atol=1e-5
        )
