"""Several heads from one run of the trunk say what each says alone."""

from pathlib import Path

import pytest

from models import Pipeline
from models.errors import HeadNotFound
from models.heads import ClassifyOptions

TEXTS = ["the king of france", ("the sea", "is cold"), "rain"]


@pytest.fixture(scope="module")
def pipeline(heads_bundle: Path) -> Pipeline:
    return Pipeline.open(heads_bundle)


@pytest.mark.parametrize("asked", [("*",), ("topics", "sentiment"), ("topics",)], ids=str)
def test_each_says_what_it_says_alone(asked: tuple[str, ...], pipeline: Pipeline) -> None:
    names = ("sentiment", "topics") if asked == ("*",) else asked
    found = pipeline.classify_by(TEXTS, asked)
    for name in names:
        wanted = pipeline.classify(TEXTS, head=name)
        for answers, labels in zip(found, wanted, strict=True):
            told = dict(answers)[name]
            assert [each.label for each in told] == [each.label for each in labels]
            for one, other in zip(told, labels, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
    assert [[name for name, _ in answers] for answers in found] == [list(names)] * len(TEXTS)


def test_the_trunk_reads_each_text_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    run = pipeline.run_trunk
    whole = type(pipeline)._run_trunk

    def count(self: Pipeline, texts: list[object]) -> object:
        read.append(len(texts))
        return whole(self, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(type(pipeline), "_run_trunk", count)
    pipeline.classify_by(TEXTS)
    assert read == [3]
    assert run


def test_a_name_that_no_head_has(pipeline: Pipeline) -> None:
    with pytest.raises(HeadNotFound):
        pipeline.find_head("classify", ("sentiment", "colour"))
    head = pipeline.find_head("classify", ("*",))
    assert len(head.resolve(ClassifyOptions())) == 2
