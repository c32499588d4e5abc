"""`python -m training.finetune`: several tasks on the trunk of a pre-training run, together."""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from rich.console import Console
from tokenizers import Tokenizer
from transformers import BertForPreTraining

from training.checkpoint import save_checkpoint
from training.errors import DataMissing, WrongOption
from training.finetuning.course import FinetuningCourse
from training.finetuning.heads import ClassifyHead, TagHead, encode_labels
from training.finetuning.holdout import find_sentences
from training.finetuning.lessons import (
    ClassifyLesson,
    ContrastLesson,
    Lesson,
    OrderLesson,
    RehearsalLesson,
    SimilarityLesson,
    TagLesson,
    TeacherLesson,
)
from training.finetuning.sets import Part, read_sets
from training.finetuning.tagged import encode_tags
from training.finetuning.taught import TaughtTexts, describe_vocabulary, open_taught
from training.finetuning.texts import WIDTH, encode_texts
from training.finetuning.validation import Validation
from training.hardware import find_hardware
from training.loop import Loop
from training.pretraining.batches import Epoch
from training.progress import Display
from training.run import add_budget, check_room, claim_directory, positive, run_command
from training.schedule import Schedule
from training.text.store import TokenStore, open_store
from training.text.vocabulary import read_vocabulary

_SEVERAL = ("emotions",)  # heads whose labels do not exclude each other
_SHARES = {"sentiment": 0.09, "emotions": 0.13, "intents": 0.18}
# Whole sentences of sentiment as often as phrases, of which the set has ten times as many.
_SENTENCES_SHARE, _ENTITIES_SHARE = 0.09, 0.10
_ENTITIES = "entities"
_TEACHER_SHARE, _TAUGHT = 0.35, 96
_SIMILARITY_SHARE, _CONTRAST_SHARE, _ORDER_SHARE, _REHEARSAL_SHARE = 0.12, 0.06, 0.15, 0.18
_TEXTS, _SCORED_PAIRS, _NEIGHBOURS, _REHEARSAL_ROWS, _TAGGED = 128, 64, 48, 16, 64  # in one step


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what each option means."""
    parser = argparse.ArgumentParser(prog="python -m training.finetune", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished pretrain run")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--teacher", type=Path, help="folder of texts that training.teach made")
    parser.add_argument("--learning-rate", type=positive, default=4e-4, help="at its highest")
    add_budget(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Trains, or goes on where a run in the same folder was stopped."""
    return run_command(finetune, parse_arguments(arguments))


def finetune(given: argparse.Namespace, console: Console) -> None:
    """Everything between the arguments and the checkpoint."""
    train, held_out = read_sets(given.data)
    model, tokenizer, stores = _open_run(given.run)
    taught = None
    if given.teacher is not None:
        taught = open_taught(given.teacher, describe_vocabulary(tokenizer))
    names = ("data", "run", "teacher", "learning_rate", "minutes", "steps", "seed")
    claim_directory(given.out, {name: _tell(getattr(given, name)) for name in names})
    check_room(given.out, model)
    torch.manual_seed(given.seed)
    heads: dict[str, ClassifyHead | TagHead] = {
        name: ClassifyHead(model.bert, data.labels, several=name in _SEVERAL)
        for name, data in train.heads.items()
    }
    if train.entities is not None:
        heads[_ENTITIES] = TagHead(model.bert, train.entities.labels)
    hardware = find_hardware()
    course = FinetuningCourse(
        model,
        heads,
        _make_lessons(model, heads, train, tokenizer, stores[0], taught=taught, seed=given.seed),
        Validation(held_out, tokenizer, stores[1]),
        hardware=hardware,
        seed=given.seed,
    )
    schedule = Schedule(given.learning_rate, given.minutes, given.steps)
    loop = Loop(course, schedule, given.out, given.save_every)
    resumed = loop.resume()
    with Display("finetune", console) as display:
        display.say(f"{hardware}" + (f"; resumed at step {loop.schedule.done}" if resumed else ""))
        if _ENTITIES not in heads:
            display.say(f"{given.data} has no ner/: there is no head for entities")
        loop.run(display)
    save_checkpoint(model, given.run / "tokenizer.json", given.out / "checkpoint", heads)
    console.print(f"{given.out / 'checkpoint'}: the checkpoint", highlight=False)


def _open_run(run: Path) -> tuple[BertForPreTraining, Tokenizer, tuple[TokenStore, TokenStore]]:
    if not (run / "checkpoint" / "config.json").exists():
        raise DataMissing(
            f"{run} holds no checkpoint. Give as --run the --out of a pretrain run that ended."
        )
    transformers.utils.logging.disable_progress_bar()
    model = BertForPreTraining.from_pretrained(run / "checkpoint")
    if model.config.max_position_embeddings < WIDTH:
        raise WrongOption(
            f"{run} has {model.config.max_position_embeddings} positions; fine-tuning takes texts "
            f"of up to {WIDTH} tokens. Pre-train with --long-width {WIDTH} or more."
        )
    tokenizer = read_vocabulary(run / "tokenizer.json")
    return model, tokenizer, (open_store(run / "corpus"), open_store(run / "validation"))


def _make_lessons(
    model: BertForPreTraining,
    heads: dict[str, ClassifyHead | TagHead],
    train: Part,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    taught: TaughtTexts | None,
    seed: int,
) -> list[Lesson]:
    trunk = model.bert
    lessons: list[Lesson] = []
    for name, data in train.heads.items():
        head = heads[name]
        assert isinstance(head, ClassifyHead)
        texts, answers = (
            encode_texts(tokenizer, data.texts),
            encode_labels(data, several=head.several),
        )
        lessons.append(ClassifyLesson(name, _SHARES[name], trunk, head, texts, answers, _TEXTS))
        if name == "sentiment":
            whole = find_sentences(data.texts)
            texts, answers = [texts[place] for place in whole], answers[whole]
            share = _SENTENCES_SHARE
            lessons.append(ClassifyLesson(name, share, trunk, head, texts, answers, _TEXTS))
    tags = heads.get(_ENTITIES)
    if isinstance(tags, TagHead) and train.entities is not None:
        tagged = encode_tags(tokenizer, train.entities, WIDTH)
        lessons.append(TagLesson(_ENTITIES, _ENTITIES_SHARE, trunk, tags, tagged, _TAGGED))
    if taught is not None:
        lessons.append(TeacherLesson("teacher", _TEACHER_SHARE, trunk, taught, _TAUGHT))
    pairs = train.similarity
    firsts, seconds = (encode_texts(tokenizer, side) for side in (pairs.firsts, pairs.seconds))
    scores = torch.tensor(pairs.scores)
    return [
        *lessons,
        SimilarityLesson(
            "similarity", _SIMILARITY_SHARE, trunk, firsts, seconds, scores, _SCORED_PAIRS
        ),
        ContrastLesson("contrast", _CONTRAST_SHARE, trunk, store, _NEIGHBOURS),
        OrderLesson("order", _ORDER_SHARE, model, store, _NEIGHBOURS),
        RehearsalLesson(
            "rehearsal", _REHEARSAL_SHARE, model, Epoch(store, WIDTH, seed + 1, 0), _REHEARSAL_ROWS
        ),
    ]


def _tell(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    sys.exit(main())
