"""A small world in the forms that training reads: each document, text and label has one topic.

What a model can learn from it shows within seconds: topic words tell the words around them, a
sentence that does not follow is of another topic, and single words give the labels away.
"""

import csv
import json
import lzma
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

TOPICS = {
    "sea": ("ship", "wave", "harbour", "sailor", "island", "anchor"),
    "farm": ("cow", "field", "barn", "farmer", "wheat", "plough"),
    "music": ("violin", "song", "singer", "concert", "drum", "choir"),
    "court": ("judge", "law", "witness", "crime", "lawyer", "prison"),
    "kitchen": ("soup", "oven", "cook", "bread", "spoon", "salt"),
    "school": ("teacher", "lesson", "pupil", "chalk", "exam", "desk"),
}
GOOD = ("wonderful", "charming", "brilliant", "delightful", "superb", "moving")
BAD = ("awful", "boring", "dreadful", "clumsy", "horrible", "tedious")
EMOTIONS = ("joy", "anger", "fear")
FEELINGS = (("glad", "cheerful"), ("furious", "outraged"), ("scared", "afraid"))
INTENTS = {
    "book_table": ("reserve a table", "book a dinner"),
    "play_music": ("play a song", "put on the radio"),
    "ask_time": ("tell me the time", "say what time it is"),
}
PEOPLE = ("Anna Berg", "Otto", "Maria Lind", "Hugo")
TOWNS = ("Oslo", "New Bergen", "Malmo")
SENTENCES = 700  # of sentiment, more than are held out


def write_data(folder: Path, seed: int = 1) -> Path:
    """Write the whole folder of training data, the same for the same seed."""
    source = random.Random(seed)
    write_documents(folder / "wiki/train-0.jsonl.xz", make_documents(source, 90))
    write_documents(folder / "wiki/validation.jsonl.xz", make_documents(source, 24))
    write_documents(folder / "books/train-0.jsonl.xz", make_documents(source, 30))
    write_lines(folder / "sentiment/train.tsv", ["sentence\tlabel", *_make_sentiment(source)])
    write_lines(folder / "emotions/labels.txt", EMOTIONS)
    for part, count in (("train", 90), ("dev", 40)):
        write_lines(folder / f"emotions/{part}.tsv", _make_emotions(source, count))
        _write_pairs(folder / f"sts/{part}.csv", source, count)
        # Of a chance of its own, so that the other sets stay what they were.
        entities = _make_entities(random.Random(f"{seed} {part}"), count)
        write_lines(folder / f"ner/{part}.iob2", entities)
    for part, count in (("train", 90), ("val", 40)):
        write_lines(folder / f"intents/{part}.tsv", ["text\tintent", *_make_intents(source, count)])
    return folder


def make_documents(source: random.Random, count: int) -> list[list[str]]:
    """Documents of three paragraphs of four sentences, each document about one topic."""
    topics = [source.choice(list(TOPICS)) for _ in range(count)]
    return [
        [" ".join(_make_sentence(source, topic) for _ in range(4)) for _ in range(3)]
        for topic in topics
    ]


def write_documents(path: Path, documents: Iterable[Sequence[str]]) -> Path:
    """Write documents as xz-compressed JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8", preset=0) as file:
        for number, paragraphs in enumerate(documents):
            line = {"id": str(number), "title": f"No. {number}", "paragraphs": list(paragraphs)}
            file.write(json.dumps(line) + "\n")
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _make_sentence(source: random.Random, topic: str) -> str:
    one, other, third = source.sample(TOPICS[topic], 3)
    return source.choice(
        (
            f"The {one} was near the {other} and the {third}.",
            f"A {one} without a {other} is no {third}.",
            f"In the morning the {one} met the {other} again.",
        )
    )


def _make_sentiment(source: random.Random) -> list[str]:
    """Whole sentences, and after some of them a phrase of theirs, as in SST-2."""
    nouns = [noun for topic in TOPICS.values() for noun in topic]
    lines: dict[str, int] = {}
    for number in range(SENTENCES):
        label = number % 2
        one, other = source.sample((BAD, GOOD)[label], 2)
        first, second = source.sample(nouns, 2)
        lines[f"the {first} was {one} and the {second} was {other} too"] = label
        if number % 3 == 0:
            lines[f"the {second} was {other}"] = label
        if number % 5 == 0:
            lines[f"{one} {first} {number}"] = label  # of a sentence that is not in the set
    return [f"{text} \t{label}" for text, label in lines.items()]


def _make_emotions(source: random.Random, count: int) -> list[str]:
    lines = []
    for number in range(count):
        held = sorted(source.sample(range(len(EMOTIONS)), source.choice((1, 1, 2))))
        felt = " and ".join(source.choice(FEELINGS[label]) for label in held)
        noun = source.choice(TOPICS[source.choice(list(TOPICS))])
        labels = ",".join(map(str, held))
        lines.append(f'I am {felt} about the "{noun}"\t{labels}\te{number}')
    return lines


def _make_intents(source: random.Random, count: int) -> list[str]:
    lines = []
    for number in range(count):
        intent = list(INTENTS)[number % len(INTENTS)]
        lines.append(f"{source.choice(INTENTS[intent])} near the {source.choice(TOPICS['sea'])}")
        lines[-1] += f"\t{intent}"
    return lines


def _write_pairs(path: Path, source: random.Random, count: int) -> None:
    """Sentences of one topic mean nearly the same, those of two topics nothing alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for number in range(count):
            one, other = source.sample(list(TOPICS), 2)
            same = number % 2 == 0
            first = _make_sentence(source, one).replace(" and ", ", and ")
            score = round(source.uniform(3, 5) if same else source.uniform(0, 2), 2)
            writer.writerow((first, _make_sentence(source, one if same else other), score))


def _make_entities(source: random.Random, count: int) -> list[str]:
    """Words with their tags, a blank line after each sentence, as UNER's sets have them."""
    lines = []
    for number in range(count):
        noun = source.choice(TOPICS[source.choice(list(TOPICS))])
        name = source.choice(PEOPLE).split()
        town = source.choice(TOWNS).split()
        lines.append(f"# sent_id = {number}")
        lines += ["the\tO", f"{noun}\tO", "of\tO"]
        lines += [f"{word}\t{'I' if place else 'B'}-PER" for place, word in enumerate(name)]
        lines += ["in\tO"]
        lines += [f"{word}\t{'I' if place else 'B'}-LOC" for place, word in enumerate(town)]
        lines += [".\tO", ""]
    return lines
