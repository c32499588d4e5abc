"""`python -m training.pretrain`: a BERT from text alone, within a budget of minutes."""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from rich.console import Console
from tokenizers import Tokenizer
from transformers import BertConfig, BertForPreTraining

from training.checkpoint import save_checkpoint
from training.errors import DataMissing, WrongOption
from training.hardware import find_hardware
from training.loop import STATE_NAME, Loop
from training.pretraining.course import Plan, PretrainingCourse
from training.progress import Display
from training.run import add_budget, check_room, claim_directory, natural, positive, run_command
from training.schedule import Schedule
from training.text.documents import find_files, read_documents
from training.text.store import TokenStore, prepare_store
from training.text.vocabulary import (
    PAD,
    read_vocabulary,
    save_vocabulary,
    train_vocabulary,
)

_HEAD_SIZE = 64
_MIN_WIDTH = 16
_MIN_VOCABULARY, _MAX_VOCABULARY = 50, 65_535  # tokens are kept in 16 bits


@dataclass(frozen=True)
class Options:
    """What decides a run's weights; a run is resumed only with the same."""

    corpus: tuple[str, ...]
    validation: tuple[str, ...]
    layers: int
    hidden_size: int
    vocabulary_size: int
    learning_rate: float
    minutes: float | None
    steps: int | None
    width: int
    long_width: int
    long_share: float
    rows_per_batch: int
    batches_per_step: int
    seed: int
    start: str | None


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, with what each option means."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--corpus",
        nargs="+",
        metavar="GLOB",
        default=["wiki/train-*.jsonl.xz", "books/train-*.jsonl.xz"],
    )
    parser.add_argument(
        "--validation", nargs="+", metavar="GLOB", default=["wiki/validation.jsonl.xz"]
    )
    add_budget(parser)
    parser.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="go on from its weights and vocabulary, not from nothing; sizes must be its own",
    )
    parser.add_argument("--layers", type=natural, default=4)
    parser.add_argument("--hidden-size", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--vocabulary-size", type=int, default=8192)
    parser.add_argument("--learning-rate", type=positive, default=2e-3, help="at its highest")
    parser.add_argument("--width", type=natural, default=128, help="tokens in the longest text")
    parser.add_argument("--long-width", type=natural, default=256, help="the same, near the end")
    parser.add_argument("--long-share", type=float, default=0.1, help="of the budget")
    parser.add_argument("--rows-per-batch", type=natural, default=32)
    parser.add_argument("--batches-per-step", type=natural, default=2)
    parser.add_argument("--vocabulary", type=Path, help="a tokenizer.json to use, not to learn one")
    return parser.parse_args(arguments)


def check_sizes(options: Options) -> None:
    """Raises WrongOption for sizes that do not go together."""
    if options.hidden_size < _HEAD_SIZE or options.hidden_size % _HEAD_SIZE:
        raise WrongOption(f"--hidden-size {options.hidden_size} is not a multiple of {_HEAD_SIZE}.")
    if not _MIN_WIDTH <= options.width <= options.long_width:
        raise WrongOption(
            f"--width {options.width} is not between {_MIN_WIDTH} and --long-width "
            f"{options.long_width}."
        )
    if not 0 <= options.long_share <= 1:
        raise WrongOption(f"--long-share {options.long_share} is not between 0 and 1.")
    if not _MIN_VOCABULARY <= options.vocabulary_size <= _MAX_VOCABULARY:
        raise WrongOption(
            f"--vocabulary-size {options.vocabulary_size} is not between {_MIN_VOCABULARY} and "
            f"{_MAX_VOCABULARY}."
        )


def main(arguments: list[str] | None = None) -> int:
    """Trains, or goes on where a run in the same folder was stopped."""
    return run_command(pretrain, parse_arguments(arguments))


def pretrain(given: argparse.Namespace, console: Console) -> None:
    """Everything between the arguments and the checkpoint."""
    fields = {name: getattr(given, name) for name in Options.__dataclass_fields__}
    options = Options(
        **{**fields, "corpus": tuple(given.corpus), "validation": tuple(given.validation)}
    )
    check_sizes(options)
    files = find_files(given.data, options.corpus)
    validation_files = find_files(given.data, options.validation)
    claim_directory(given.out, asdict(options))
    tokenizer = _find_vocabulary(given, files, console)
    stores = _prepare_stores(given.out, (files, validation_files), tokenizer, console)

    torch.manual_seed(options.seed)
    model = _make_model(options, tokenizer.get_vocab_size())
    check_room(given.out, model)
    hardware = find_hardware()
    plan = Plan(
        options.width, options.long_width, options.long_share, options.rows_per_batch,
        options.batches_per_step, options.seed,
    )  # fmt: skip
    course = PretrainingCourse(model, stores, plan, hardware)
    schedule = Schedule(options.learning_rate, options.minutes, options.steps)
    loop = Loop(course, schedule, given.out, given.save_every)
    weights = sum(weight.numel() for weight in model.parameters())
    resumed = loop.resume()
    with Display("pretrain", console) as display:
        display.say(
            f"{weights / 1e6:.1f}M weights, {len(stores[0].tokens) / 1e6:.1f}M tokens of text, "
            f"{hardware}" + (f"; resumed at step {loop.schedule.done}" if resumed else "")
        )
        loop.run(display)
    save_checkpoint(model, given.out / "tokenizer.json", given.out / "checkpoint")
    console.print(f"{given.out / 'checkpoint'}: the checkpoint", highlight=False)


def _find_vocabulary(
    given: argparse.Namespace, files: tuple[Path, ...], console: Console
) -> Tokenizer:
    """The run's own, the one given, or one learnt from the corpus; kept in the run's folder."""
    path = given.out / "tokenizer.json"
    if path.exists():
        return read_vocabulary(path)
    known = given.vocabulary or (Path(given.start) / "tokenizer.json" if given.start else None)
    if known:
        tokenizer = read_vocabulary(known)
    else:
        size = given.vocabulary_size
        console.print(f"Learning a vocabulary of {size:,} pieces", highlight=False)
        texts = (paragraph for file in files for one in read_documents(file) for paragraph in one)
        tokenizer = train_vocabulary(texts, size)
    save_vocabulary(tokenizer, path)
    return tokenizer


def _prepare_stores(
    directory: Path,
    files: tuple[tuple[Path, ...], tuple[Path, ...]],
    tokenizer: Tokenizer,
    console: Console,
) -> tuple[TokenStore, TokenStore]:
    def report(done: int, of: int) -> None:
        console.print(f"Tokenised {done} of {of} files", highlight=False)

    begun = (directory / STATE_NAME).exists()
    names = ("corpus", "validation")
    train, validation = (
        prepare_store(some, tokenizer, directory / name, report, begun=begun)
        for some, name in zip(files, names, strict=True)
    )
    return train, validation


def _make_model(options: Options, vocabulary_size: int) -> BertForPreTraining:
    config = _make_config(options, vocabulary_size)
    if options.start is None:
        return BertForPreTraining(config)
    transformers.utils.logging.disable_progress_bar()
    try:
        model = BertForPreTraining.from_pretrained(options.start, dtype=torch.float32)
    except (OSError, ValueError) as problem:
        raise DataMissing(f"--from {options.start} is no checkpoint: {problem}") from problem
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
        found, wanted = getattr(model.config, name), getattr(config, name)
        if found != wanted:
            raise WrongOption(
                f"--from {options.start} has {name} {found}, and this run would have {wanted}. "
                "Give the sizes of the checkpoint, or train from nothing."
            )
    return BertForPreTraining.from_pretrained(options.start, config=config, dtype=torch.float32)


def _make_config(options: Options, vocabulary_size: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden_size // _HEAD_SIZE,
        intermediate_size=4 * options.hidden_size,
        max_position_embeddings=options.long_width,
        hidden_dropout_prob=0.0,  # one pass over the text or less: nothing to regularise
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
    )


if __name__ == "__main__":
    sys.exit(main())
