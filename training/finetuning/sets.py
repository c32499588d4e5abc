"""The labelled sets of the default model: what is trained on, and what it is judged by."""

from dataclasses import dataclass
from pathlib import Path

from training.errors import DataTooSmall
from training.finetuning.holdout import find_sentences, hold_out
from training.finetuning.labelled import (
    LabelledTexts,
    ScoredPairs,
    read_emotions,
    read_intents,
    read_sentiment,
    read_similarity,
)
from training.finetuning.tagged import TaggedTexts, read_entities

HELD_OUT_SENTENCES = 600
_LARGEST_PART = 10  # of a small set, one sentence in so many
_HOLD_OUT_SEED = 0  # not the run's: whatever the run, the same sentences stay unseen


@dataclass(frozen=True)
class Part:
    """The training or the validation part of every set. The first of `heads` is the default.

    Without the folder ner/ there are no `entities`.
    """

    heads: dict[str, LabelledTexts]
    similarity: ScoredPairs
    entities: TaggedTexts | None


def read_sets(data: Path) -> tuple[Part, Part]:
    """(training, validation). Raises DataMissing, DataDamaged, DataTooSmall."""
    phrases = read_sentiment(data / "sentiment/train.tsv")
    count = min(HELD_OUT_SENTENCES, len(find_sentences(phrases.texts)) // _LARGEST_PART)
    sentiment = hold_out(phrases, count, _HOLD_OUT_SEED)
    if not all(part.texts for part in sentiment):
        raise DataTooSmall(
            f"{data / 'sentiment/train.tsv'} has too few sentences to hold any out; give more."
        )
    labels = data / "emotions/labels.txt"
    emotions = [read_emotions(data / f"emotions/{part}.tsv", labels) for part in ("train", "dev")]
    intents = read_intents(data / "intents/train.tsv")
    intents_seen = read_intents(data / "intents/val.tsv", intents.labels)
    similarity = [read_similarity(data / f"sts/{part}.csv") for part in ("train", "dev")]
    tagged: tuple[TaggedTexts | None, TaggedTexts | None] = None, None
    if (data / "ner").exists():
        entities = read_entities(data / "ner/train.iob2")
        tagged = entities, read_entities(data / "ner/dev.iob2", entities.labels)
    first, second = (
        Part(
            {"sentiment": sentiment[place], "emotions": emotions[place], "intents": texts},
            similarity[place],
            tagged[place],
        )
        for place, texts in enumerate((intents, intents_seen))
    )
    return first, second
