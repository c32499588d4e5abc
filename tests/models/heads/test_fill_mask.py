"""Fill-mask: candidates and scores of transformers, and offsets in the text as it was sent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from models import Pipeline
from models.errors import CallerError, EmptyInput, InputTooLong, InvalidTarget, MissingMask
from models.heads import EmbedOptions, FillMaskOptions
from tests.helpers.checkpoints import COMMON_MASK, EACH_FAMILY
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, write_texts


@pytest.fixture(params=EACH_FAMILY)
def model(request: pytest.FixtureRequest, exported: Export) -> Exported:
    return exported(request.param, "ForMaskedLM")


def test_scores_equal_transformers_over_the_whole_vocabulary(model: Exported) -> None:
    mask = model.original.tokenizer.mask_token
    texts = []
    for number, text in enumerate(write_texts(30, longest=50, seed=21)):
        words = text.split()
        words.insert(number % (len(words) + 1), mask)
        if number % 3 == 0:
            words.insert(0, mask)
        texts.append(" ".join(words))
    size = model.pipeline.manifest.vocabulary_size
    answers = model.pipeline.fill_mask(texts, top_k=size, overflow="truncate")
    for text, masks in zip(texts, answers, strict=True):
        wanted = model.original.mask_scores(text)
        assert len(masks) == len(wanted)
        for mask_found, scores in zip(masks, wanted, strict=True):
            found = np.empty(size, np.float32)
            for candidate in mask_found.candidates:
                found[candidate.token_id] = candidate.score
            np.testing.assert_allclose(found, scores, atol=2e-5)
            ordered = [candidate.score for candidate in mask_found.candidates]
            assert ordered == sorted(ordered, reverse=True)


def test_equal_to_the_pipeline_of_transformers(model: Exported) -> None:
    original = model.original
    ask = transformers.pipeline("fill-mask", model=original.model, tokenizer=original.tokenizer)
    mask = original.tokenizer.mask_token
    texts = [f"the {mask} of france", f"{mask} is cold", f"a {mask}, a {mask} and a horse {mask}"]
    for top_k in (None, 1, 7):
        found = model.pipeline.fill_mask(texts, top_k=top_k)
        for text, masks in zip(texts, found, strict=True):
            wanted: Any = ask(text) if top_k is None else ask(text, top_k=top_k)
            if text.count(mask) == 1:
                wanted = [wanted]
            compare_candidates(masks, wanted)


def test_targets_equal_the_pipeline_of_transformers(model: Exported) -> None:
    original = model.original
    ask = transformers.pipeline("fill-mask", model=original.model, tokenizer=original.tokenizer)
    mask = original.tokenizer.mask_token
    words = ["king", "queen", "france", "city", "king"]
    # Its own pipeline looks words up as they are written in the vocabulary.
    known = original.tokenizer.get_vocab()
    start = next(mark for mark in ("Ġ", "▁", "") if f"{mark}king" in known)
    written = [start + word for word in words]
    text = f"the {mask} of london"
    for top_k in (None, 2):
        wanted: Any = ask(text, targets=written, top_k=top_k or 4)
        [[found]] = model.pipeline.fill_mask([text], targets=words, top_k=top_k)
        compare_candidates([found], [wanted])
        assert len(found.candidates) == (top_k or 4)
    # A target may be given as the vocabulary has it.
    [[exact]] = model.pipeline.fill_mask([text], targets=written)
    [[plain]] = model.pipeline.fill_mask([text], targets=words)
    assert exact == plain


def compare_candidates(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted)
    for mask, row in zip(found, wanted, strict=True):
        assert [candidate.token_id for candidate in mask.candidates] == [w["token"] for w in row]
        scores = [candidate.score for candidate in mask.candidates]
        np.testing.assert_allclose(scores, [w["score"] for w in row], atol=2e-5)
        for candidate, one in zip(mask.candidates, row, strict=True):
            shown = one["token_str"].strip()
            assert candidate.token == (shown[2:] if shown.startswith("##") else shown)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_pretraining_checkpoints(exported: Export, family: str) -> None:
    model = exported(family, "ForPreTraining")
    assert "fill-mask" in model.pipeline.manifest.tasks
    assert ("next-sentence" in model.pipeline.manifest.tasks) == (family == "bert")
    text = "the [MASK] of france is [MASK]"
    wanted = model.original.mask_scores(text, "prediction_logits")
    [masks] = model.pipeline.fill_mask([text], top_k=3)
    assert len(masks) == 2
    for mask, scores in zip(masks, wanted, strict=True):
        best = np.argsort(-scores)[:3]
        assert [candidate.token_id for candidate in mask.candidates] == best.tolist()
        found = [candidate.score for candidate in mask.candidates]
        np.testing.assert_allclose(found, scores[best], atol=2e-5)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "the ",
        "the    ",
        "the",
        "\t\n ",
        "un café naïf ",
        "e\u0301tude, cafe\u0301 ",
        "日本の今日は",
        "great 🎉👋🏽 👨‍👩‍👧 ",
        "İstanbul ß ﬁ Ǆ ",
        "zero\u200bwidth \u00ad\ufeff ",
        "\x00\x07control ",
        "[mask] [ MASK ] ",
        "a" * 30 + " ",
    ],
)
def test_offsets_are_those_of_the_text_as_sent(model: Exported, before: str) -> None:
    for mask in {COMMON_MASK, model.original.tokenizer.mask_token}:
        text = f"{before}{mask}   of {mask}, 日本{mask}"
        [masks] = model.pipeline.fill_mask([text], top_k=3, overflow="truncate")
        ids = model.original.tokens(text.replace(COMMON_MASK, model.original.tokenizer.mask_token))
        kept = ids["input_ids"][0].tolist().count(model.original.tokenizer.mask_token_id)
        assert len(masks) == kept == 3
        expected = len(before)
        for found in masks:
            assert (found.start, found.end) == (text.index(mask, expected), expected + len(mask))
            assert text[found.start : found.end] == mask
            expected = text.find(mask, found.end)
            for candidate in found.candidates:
                filled = text[: found.start] + candidate.token + text[found.end :]
                assert candidate.sequence == filled
                assert candidate.token == candidate.token.strip()


def test_the_common_mask_and_the_models_own_are_the_same(model: Exported) -> None:
    own = model.original.tokenizer.mask_token
    shapes = ["the {} of france", "{}", "a {} {} b", "the{}.", "🎉 {} 日{}", "a  {}"]
    common = model.pipeline.fill_mask([shape.replace("{}", COMMON_MASK) for shape in shapes])
    theirs = model.pipeline.fill_mask([shape.replace("{}", own) for shape in shapes])
    mixed = [shape.replace("{}", COMMON_MASK, 1).replace("{}", own) for shape in shapes]
    both = model.pipeline.fill_mask(mixed)
    for shape, left, middle, right in zip(shapes, common, both, theirs, strict=True):
        assert len(left) == len(middle) == len(right) == shape.count("{}")
        for one, two, three in zip(left, middle, right, strict=True):
            numbers = [[c.token_id for c in mask.candidates] for mask in (one, two, three)]
            assert numbers[0] == numbers[1] == numbers[2]
            for other in (two, three):
                np.testing.assert_allclose(
                    [c.score for c in one.candidates],
                    [c.score for c in other.candidates],
                    atol=1e-5,
                )


def test_another_familys_mask_is_only_text(model: Exported) -> None:
    other = "<mask>" if model.original.tokenizer.mask_token == COMMON_MASK else "[mask]"
    with pytest.raises(MissingMask) as caught:
        model.pipeline.fill_mask(["a [MASK]", f"a {other} b"])
    assert caught.value.param == "inputs[1]"
    assert f"{other} is no mask of this model; put [MASK]" in caught.value.message


def test_sequence_shows_words_without_markers(pretraining: Exported, exported: Export) -> None:
    [[mask]] = pretraining.pipeline.fill_mask(["walk[MASK]"], targets=["##ing", "king"])
    by_token = {candidate.token: candidate.sequence for candidate in mask.candidates}
    assert by_token == {"ing": "walking", "king": "walkking"}
    roberta = exported("roberta", "ForMaskedLM").pipeline
    [[mask]] = roberta.fill_mask(["the  <mask> is"], targets=["king"])
    assert mask.candidates[0].sequence == "the  king is"
    assert (mask.start, mask.end) == (5, 11)


def test_a_mask_that_is_cut_away_is_not_among_the_masks(model: Exported) -> None:
    long = "king " * 62
    texts = [
        f"the [MASK] {long}",
        f"[MASK] {long} [MASK]",
        f"{long} {long} [MASK]",
        "a [MASK]",
    ]
    answers = model.pipeline.fill_mask(texts, overflow="truncate")
    assert [len(masks) for masks in answers] == [1, 1, 0, 1]
    assert [masks[0].start for masks in answers if masks] == [4, 0, 2]
    # Also when no text of a batch has a mask left.
    assert model.pipeline.fill_mask([texts[2]], overflow="truncate") == [[]]
    with pytest.raises(InputTooLong) as caught:
        model.pipeline.fill_mask(["a [MASK]", texts[2]])
    assert caught.value.param == "inputs[1]"


@pytest.mark.parametrize(
    ("targets", "param"),
    [
        ((), "targets"),
        (("king", "unicorn"), "targets[1]"),
        (("king queen",), "targets[0]"),
        (("",), "targets[0]"),
        (("king", "  "), "targets[1]"),
        (("☃",), "targets[0]"),
        (("king", "\ud800"), "targets[1]"),
    ],
)
def test_targets_that_are_not_one_token(
    model: Exported, targets: tuple[str, ...], param: str
) -> None:
    with pytest.raises(CallerError) as caught:
        model.pipeline.fill_mask(["a [MASK]"], targets=targets)
    assert caught.value.param == param
    if "\ud800" not in targets:
        assert isinstance(caught.value, InvalidTarget)


def test_the_same_target_twice_is_one_candidate(model: Exported) -> None:
    [[mask]] = model.pipeline.fill_mask(["a [MASK]"], targets=["king", "king", " king", "cat"])
    assert sorted(candidate.token for candidate in mask.candidates) == ["cat", "king"]


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_below_one(pretraining: Exported, top_k: int) -> None:
    for targets in (None, ["king"]):
        with pytest.raises(CallerError) as caught:
            pretraining.pipeline.fill_mask(["a [MASK]"], top_k=top_k, targets=targets)
        assert (caught.value.code, caught.value.param) == ("invalid_value", "top_k")


def test_top_k_above_the_vocabulary_is_all_of_it(model: Exported) -> None:
    size = model.pipeline.manifest.vocabulary_size
    tokens = len(model.original.tokenizer)
    assert tokens < size
    for top_k in (size - 1, size, size + 1, 10**6):
        [[mask]] = model.pipeline.fill_mask(["a [MASK]"], top_k=top_k)
        assert len(mask.candidates) == min(top_k, size)
        # The rows that round the vocabulary up have no token; they must not stop an answer.
        shown = {c.token_id: c.token for c in mask.candidates}
        assert {shown.get(number, "") for number in range(tokens, size)} == {""}
    assert sum(c.score for c in mask.candidates) == pytest.approx(1, abs=1e-5)


def test_equal_scores_are_ordered_by_id() -> None:
    from models.heads.fill_mask import _best

    logits = np.zeros(50, np.float32)
    logits[[7, 30]] = 1.0
    ids, scores = _best(logits, FillMaskOptions(top_k=2))
    assert ids.tolist() == [7, 30]
    assert scores[0] == scores[1]
    ids, _ = _best(logits, FillMaskOptions(top_k=3, target_ids=(40, 7, 3)))
    assert ids.tolist() == [7, 3, 40]


def test_no_mask_and_no_text(model: Exported) -> None:
    for text, kind in (("a", MissingMask), ("", EmptyInput), (" \n", EmptyInput)):
        with pytest.raises(kind) as caught:
            model.pipeline.fill_mask(["[MASK]", "[MASK]", text])
        assert caught.value.param == "inputs[2]"
    [masks] = model.pipeline.fill_mask(["[MASK]"])
    assert (masks[0].start, masks[0].end) == (0, 6)


def test_many_targets_are_a_large_question(pretraining_bundle: Path) -> None:
    pipeline = Pipeline.open(pretraining_bundle)
    head = pipeline.find_head("fill-mask")
    for targets, large in ((None, False), (("king",) * 16, False), (("king",) * 17, True)):
        assert head.is_large(FillMaskOptions(targets=targets)) == large
    assert not pipeline.find_head("embed").is_large(EmbedOptions())


@pytest.mark.parametrize("side", ["right", "left"])
def test_where_a_text_with_the_common_mask_was_cut(model: Exported, side: Any) -> None:
    """In characters of the text as it was sent, whatever the model's own mask is."""
    text = "[MASK] king " * 60
    head = model.pipeline.find_head("fill-mask")
    options = FillMaskOptions(overflow="truncate", truncation_side=side)
    job = head.prepare(text, head.resolve(options))
    at = job.encoded.truncated_at
    kept = text[:at] if side == "right" else text[at:]
    assert 0 < at < len(text)
    # Between words, and beside a mask.
    assert not (text[at - 1] + text[at]).isalpha()
    masks = model.pipeline.fill_mask([text], overflow="truncate", truncation_side=side)[0]
    assert all(text[mask.start : mask.end] == "[MASK]" for mask in masks)
    assert len(masks) == kept.count("[MASK]")
    assert all(mask.end <= at if side == "right" else mask.start >= at for mask in masks)
