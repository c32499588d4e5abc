"""Token-classify: entities, words, offsets and scores of transformers' own pipeline."""

import random
import warnings
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import transformers

from models import Pipeline
from models.errors import CallerError, InternalError
from models.heads import Aggregation, Entity, TokenClassifyOptions
from models.text.truncation import MAX_WINDOWS
from tests.helpers.checkpoints import ENTITIES, FAMILIES, add_head, in_turn, make_checkpoint
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, write_contexts, write_text, write_texts
from tests.helpers.store import Store

AGGREGATIONS = get_args(Aggregation)


# What is left over of the words is of pipelines and not of trunks: two kinds of tokenizer.
@pytest.fixture(params=in_turn(FAMILIES, ("bert", "roberta")))
def model(request: pytest.FixtureRequest, exported_head: Export) -> Exported:
    return exported_head(request.param, "ForTokenClassification")


@pytest.fixture
def bert(exported_head: Export) -> Exported:
    return exported_head("bert", "ForTokenClassification")


def make_asker(model: Exported) -> Any:
    original = model.original
    return transformers.pipeline(
        "token-classification", model=original.model, tokenizer=original.tokenizer
    )


def ask(asker: Any, text: str, **options: Any) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tokenizer does not support real words")
        answer: list[dict[str, Any]] = asker(text, **options)
    return answer


def compare(found: Any, wanted: list[dict[str, Any]]) -> None:
    assert [
        (entity.label, entity.word, entity.start, entity.end, entity.index) for entity in found
    ] == [
        (row.get("entity") or row["entity_group"], *map(row.get, ("word", "start", "end", "index")))
        for row in wanted
    ]
    np.testing.assert_allclose(
        [entity.score for entity in found], [row["score"] for row in wanted], atol=1e-4
    )


def test_equal_to_the_pipeline_of_transformers(model: Exported) -> None:
    asker = make_asker(model)
    texts = write_contexts(54, longest=24, seed=51) + write_texts(6, seed=52)
    labels = set()
    for aggregation in AGGREGATIONS:
        for ignored in (("O",), ()):
            options = {"aggregation": aggregation, "ignore_labels": ignored}
            found = model.pipeline.token_classify(texts, overflow="truncate", **options)
            for text, entities in zip(texts, found, strict=True):
                wanted = ask(
                    asker, text, aggregation_strategy=aggregation, ignore_labels=list(ignored)
                )
                compare(entities, wanted)
                labels |= {entity.label for entity in entities}
    # The labels differ enough for this to mean something.
    assert len(labels) > 2


@pytest.mark.parametrize("stride", [0, 1, 20, 58])
def test_windows_equal_the_pipeline_of_transformers(model: Exported, stride: int) -> None:
    asker = make_asker(model)
    texts = write_contexts(6, longest=90, seed=54) + write_texts(6, longest=200, seed=55)
    texts.append(write_text(random.Random(5), 250))
    for aggregation in AGGREGATIONS[1:]:
        for ignored in (("O",), ()):
            options: dict[str, Any] = {"aggregation": aggregation, "ignore_labels": ignored}
            found = model.pipeline.token_classify(texts, stride=stride, **options)
            for text, entities in zip(texts, found, strict=True):
                wanted = ask(
                    asker,
                    text,
                    aggregation_strategy=aggregation,
                    ignore_labels=list(ignored),
                    stride=stride,
                )
                compare(entities, wanted)
    head = model.pipeline.find_head("token-classify")
    windows = [
        len(head.prepare(text, TokenClassifyOptions("max", stride=9)).more) for text in texts
    ]
    assert max(windows) > 2
    assert min(windows) == 0


def test_a_stride_that_cannot_be(bert: Exported) -> None:
    for stride, aggregation in ((3, "none"), (-1, "simple"), (62, "simple")):
        with pytest.raises(CallerError) as caught:
            bert.pipeline.token_classify(["a"], aggregation=aggregation, stride=stride)  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.param) == ("invalid_value", "stride")
    many = "king " * (63 + MAX_WINDOWS)
    ask = partial(bert.pipeline.token_classify, aggregation="simple", ignore_labels=(), stride=61)
    with pytest.raises(CallerError) as caught:
        ask(["a", many])
    assert (caught.value.code, caught.value.param) == ("input_too_long", "inputs[1]")
    head = bert.pipeline.find_head("token-classify")
    job = head.prepare(many, TokenClassifyOptions("simple", overflow="truncate", stride=61))
    assert len(job.more) == MAX_WINDOWS - 1
    assert job.encoded.truncated_at == (61 + MAX_WINDOWS) * len("king ") - 1
    assert head.prepare("king", TokenClassifyOptions("simple", stride=61)).more == ()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_label_in_every_order_equals_transformers(model: Exported, aggregation: str) -> None:
    """Logits that no tiny model gives: ties, sure ones, all prefixes after one another."""
    asker = make_asker(model)
    text = "Walking, naïve café 😀 the king's e\u0301tude of 日本語 wasn't slowness."
    head = model.pipeline.find_head("token-classify")
    options = TokenClassifyOptions(aggregation, ignore_labels=("LOC", "B-PER"))  # type: ignore[arg-type]
    job = head.prepare(text, head.resolve(options))
    [inputs] = asker.preprocess(text, is_split_into_words=False)
    random = np.random.default_rng(5)
    for scale in (0, 1, 1, 1, 8, 8):
        # Whole numbers: many tokens have two labels that are equally likely.
        logits = (random.integers(-2, 3, (job.tokens, len(ENTITIES))) * scale).astype(np.float32)
        job.output = logits
        outputs = {**inputs, "logits": transformers.pipelines.base.torch.from_numpy(logits)[None]}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tokenizer does not support real words")
            wanted = asker.postprocess(
                [outputs],
                aggregation_strategy=transformers.pipelines.token_classification.AggregationStrategy(
                    aggregation
                ),
                ignore_labels=["LOC", "B-PER"],
            )
        compare(head.decode(job), wanted)


def test_offsets_are_characters_of_the_text_as_it_was_sent(model: Exported) -> None:
    for text in write_contexts(10, longest=10, seed=53):
        [entities] = model.pipeline.token_classify([text], ignore_labels=())
        assert all(0 <= entity.start <= entity.end <= len(text) for entity in entities)
        starts = [entity.start for entity in entities]
        assert starts == sorted(starts)


def test_special_tokens_written_in_the_text(model: Exported) -> None:
    asker = make_asker(model)
    tokenizer = model.original.tokenizer
    for token in (tokenizer.mask_token, tokenizer.sep_token, tokenizer.unk_token):
        text = f"the {token} king{token}, {token}"
        for aggregation in AGGREGATIONS:
            [found] = model.pipeline.token_classify(
                [text], aggregation=aggregation, ignore_labels=()
            )
            compare(found, ask(asker, text, aggregation_strategy=aggregation, ignore_labels=[]))


def test_too_long_is_refused_or_cut(bert: Exported) -> None:
    text = "king " * 100
    with pytest.raises(CallerError) as caught:
        bert.pipeline.token_classify(["a", text])
    assert (caught.value.code, caught.value.param) == ("input_too_long", "inputs[1]")
    [found] = bert.pipeline.token_classify([text], ignore_labels=(), overflow="truncate")
    assert [entity.index for entity in found] == list(range(1, 63))
    head = bert.pipeline.find_head("token-classify")
    assert head.prepare(text, TokenClassifyOptions(overflow="truncate")).encoded.truncated


def test_an_empty_text_is_named(bert: Exported) -> None:
    for text in ("", "  \n", "\u200b"):
        with pytest.raises(CallerError) as caught:
            bert.pipeline.token_classify(["a", text])
        assert (caught.value.code, caught.value.param) == ("empty_input", "inputs[1]")
    assert bert.pipeline.token_classify([]) == []


def test_an_unknown_aggregation_is_refused(bert: Exported) -> None:
    with pytest.raises(CallerError) as caught:
        bert.pipeline.token_classify(["a"], aggregation="last")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("invalid_value", "aggregation")


def test_a_job_of_another_kind_is_a_bug_of_ours(bert: Exported) -> None:
    head = bert.pipeline.find_head("token-classify")
    job = head.prepare("a", TokenClassifyOptions())
    job.encoded = head.encoder.encode("a", overflow="error")
    job.output = np.zeros((3, len(ENTITIES)), np.float32)
    with pytest.raises(InternalError, match="without its origins"):
        head.decode(job)


def test_heads_by_name(tmp_path: Path, exports: Store) -> None:
    source = make_checkpoint(tmp_path / "source", "bert", "BertForMaskedLM")
    for number, name in enumerate(("entities", "tags")):
        labels = [f"{name}-{one}" for one in range(3 + number)]
        add_head(source, name, "BertForTokenClassification", seed=number, labels=labels)
    pipeline = Pipeline.open(exports.export(source, "tagged"))
    assert pipeline.manifest.tasks == ("embed", "fill-mask", "token-classify")
    for name in ("entities", "tags"):
        [found] = pipeline.token_classify(["the king of france"], head=name)
        assert len(found) == 4
        assert all(entity.label.startswith(name) for entity in found)
        entry = pipeline.find_head("token-classify", name).entry
        assert (entry.function, entry.problem_type) == ("softmax", None)
    first = pipeline.token_classify(["the king of france"])
    assert first == pipeline.token_classify(["the king of france"], head="entities")


def test_a_tie_on_another_machine_is_no_difference(reader_bundle: Path) -> None:
    """Two labels that are equally likely may change places."""
    head = Pipeline.open(reader_bundle).find_head("token-classify")
    token = Entity("B-PER", 0.4, "king", 0, 4, 1)
    other = {"label": "O", "score": 0.4, "word": "king", "start": 0, "end": 4, "index": 1}
    assert head.difference([token], [other]) == 0.0
    assert head.difference([token], [other | {"word": "k"}]) == 1.0
