"""`python -m training.teach`: what a teacher's embeddings of a corpus are, for a student to learn.

The teacher is a bundle; its vectors of sentences and short passages are kept beside the student's
own tokens of them (Reimers and Gurevych 2020, arXiv:2004.09813, whose student learns a teacher's
vectors of the same text).
"""

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console

from models.pipeline import Pipeline
from training.errors import DataTooSmall
from training.finetuning.taught import TaughtWriter, describe_vocabulary
from training.finetuning.texts import encode_texts
from training.progress import Display
from training.run import claim_directory, natural, run_command
from training.text.documents import find_files, read_documents
from training.text.sentences import split_sentences
from training.text.vocabulary import read_vocabulary

# Of each four texts one is a passage of so many sentences at most.
_PASSAGE_EVERY, _PASSAGE_SENTENCES = 4, 4
_MIN_WORDS, _MOST_WORDS = 4, 80
_AT_ONCE = 4_000


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what each option means."""
    parser = argparse.ArgumentParser(prog="python -m training.teach", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--run", type=Path, required=True, help="folder of the student's run")
    parser.add_argument("--teacher", type=Path, required=True, help="a bundle that embeds")
    parser.add_argument("--out", type=Path, required=True, help="folder of texts and vectors")
    parser.add_argument("--precision", help="of the teacher; default: its fp32")
    parser.add_argument("--texts", type=natural, default=1_000_000, help="at most so many")
    parser.add_argument(
        "--corpus",
        nargs="+",
        metavar="GLOB",
        default=["wiki/train-*.jsonl.xz", "books/train-*.jsonl.xz"],
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Asks the teacher, or goes on where it was stopped."""
    return run_command(teach, parse_arguments(arguments))


def teach(given: argparse.Namespace, console: Console) -> None:
    """Everything between the arguments and the folder."""
    files = find_files(given.data, tuple(given.corpus))
    tokenizer = read_vocabulary(given.run / "tokenizer.json")
    pipeline = Pipeline.open(given.teacher, precision=given.precision)
    options = {
        "corpus": list(given.corpus),
        "texts": given.texts,
        "teacher": f"{pipeline.manifest.name} {pipeline.bundle.fingerprint}",
        "precision": pipeline.precision,
    }
    claim_directory(given.out, options)
    writer = TaughtWriter(given.out, describe_vocabulary(tokenizer))
    try:
        texts = islice(draw_texts(files, given.texts), writer.done, None)
        with Display("teach", console) as display:
            if writer.done:
                display.say(f"{writer.done:,} texts are there already")
            while some := list(islice(texts, _AT_ONCE)):
                vectors = pipeline.embed(some, overflow="truncate")
                writer.add(encode_texts(tokenizer, some), vectors)
                display.show(writer.done / given.texts, {"texts": f"{writer.done:,}"})
    finally:
        writer.close()
    if not writer.done:
        raise DataTooSmall(f"{files[0]} and the others hold no sentence of {_MIN_WORDS} words.")
    console.print(f"{given.out}: {writer.done:,} texts with their vectors", highlight=False)


def draw_texts(files: Iterable[Path], count: int) -> Iterator[str]:
    """At most so many sentences and passages of the corpus, spread over it; the same every time.

    The corpus is read twice: how many there are decides how many are left out.
    """
    files = tuple(files)
    found = sum(1 for _ in _list_texts(files))
    part = min(1.0, count / max(1, found))
    chance = random.Random(found)  # noqa: S311 - a sample, not a secret
    chosen = (text for text in _list_texts(files) if chance.random() < part)
    yield from islice(chosen, count)


def _list_texts(files: Iterable[Path]) -> Iterator[str]:
    number = 0
    for file in files:
        for document in read_documents(file):
            for paragraph in document:
                sentences = split_sentences(paragraph)
                for place, sentence in enumerate(sentences):
                    number += 1
                    text = sentence
                    # By a hash: paragraphs are often of as many sentences.
                    mixed = (number * 2654435761 >> 8) & 0xFFFF
                    if mixed % _PASSAGE_EVERY == 0:
                        more = 2 + mixed // _PASSAGE_EVERY % (_PASSAGE_SENTENCES - 1)
                        text = " ".join(sentences[place : place + more])
                    if _MIN_WORDS <= len(text.split()) <= _MOST_WORDS:
                        yield text


if __name__ == "__main__":
    sys.exit(main())
