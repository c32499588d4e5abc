"""The command line of the exporter."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from export.writing.signals import Signals
from models.errors import ClozeError, explain_missing
from models.tasks import TASKS

_EXAMPLES = """\
examples:
  python -m export ./my-checkpoint bundles/mine
  python -m export sentence-transformers/all-MiniLM-L6-v2 bundles/minilm --revision main
  python -m export google-bert/bert-base-uncased bundles/bert --tasks fill-mask,next-sentence
  python -m export ./my-checkpoint bundles/fast --precision fp32,int8
  python -m export inspect bundles/mine
  python -m export verify bundles/mine --against ./my-checkpoint

exit codes: 0 done, 2 wrong arguments or a bundle that cannot be read, 3 the source cannot be read,
4 the model is not supported, 5 OUT cannot be written, 6 the bundle is not equal to its source,
129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # From here on, since torch takes seconds to import.
        with Signals():
            if given[:1] == ["inspect"]:
                return _inspect(given[1:])
            if given[:1] == ["verify"]:
                return _verify(given[1:])
            return _export(given)
    except ClozeError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(getattr(error, "exit_code", 2))
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {explain_missing(error, '.venv-export', '[export]')}\n")
        return 2
    except KeyboardInterrupt as stopped:
        sys.stderr.write("stopped; nothing was written\n")
        return int(getattr(stopped, "exit_code", 130))


# As models/bundle/manifest.py has them; it is not imported for --help.
_POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def _read_export(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Convert a trained BERT into a bundle that the service answers from.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="a checkpoint's directory, or its id on the hub")
    parser.add_argument("out", type=Path, help="the directory to make")
    parser.add_argument(
        "--replace", action="store_true", help="take the place of the bundle that is at OUT"
    )
    parser.add_argument(
        "--tasks",
        type=_names(tuple(TASKS)),
        help=f"comma-separated, of {', '.join(TASKS)}; default: all it was trained for",
    )
    parser.add_argument(
        "--precision",
        type=_names(("fp32", "int8", "fp16", "bf16")),
        default=("fp32",),
        help="comma-separated: fp32 (default), int8 for CPUs, fp16 for GPUs, bf16 for CPUs with "
        "units for it",
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="write a precision that misses its threshold; the bundle says so for ever",
    )
    parser.add_argument(
        "--pooling",
        choices=(*_POOLINGS, "splade"),
        help="for checkpoints that do not say how they pool; default: mean",
    )
    parser.add_argument(
        "--entailment",
        metavar="LABEL",
        help="the label of a classifier that says that one text follows from another, for "
        "zero-shot; default: the one that begins with entail",
    )
    parser.add_argument("--name", help="the name the service shows; default: that of OUT")
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    _add_json(parser)
    return parser.parse_args(given)


def _export(given: Sequence[str]) -> int:
    options = _read_export(given)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Imported here: --help and wrong arguments need not wait for torch.
    from export.console import Console
    from export.writing.exporter import export_bundle
    from export.writing.request import ExportRequest
    from models.machine.allocator import return_large_blocks

    return_large_blocks()
    with Console() as console:
        result = export_bundle(
            ExportRequest(
                source=options.source,
                out=options.out,
                tasks=options.tasks,
                precisions=options.precision,
                pooling=options.pooling,
                entailment=options.entailment,
                name=options.name,
                revision=options.revision,
                replace=options.replace,
                accept_loss=options.accept_loss,
            ),
            console,
        )
    if options.json:
        _print_json(
            {
                "path": str(result.bundle.path),
                "seconds": round(result.seconds, 1),
                "notes": result.notes,
                "fingerprint": result.bundle.fingerprint,
                "manifest": result.bundle.manifest.model_dump(mode="json"),
            }
        )
    else:
        console.summarise(result)
    return 0


def _inspect(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export inspect", description="Show what a bundle holds."
    )
    parser.add_argument("bundle", type=Path)
    _add_json(parser)
    options = parser.parse_args(given)
    from export.console import show_bundle
    from models.bundle.bundle import Bundle

    bundle = Bundle.open(options.bundle)
    if options.json:
        manifest = bundle.manifest.model_dump(mode="json")
        _print_json({"fingerprint": bundle.fingerprint, "manifest": manifest})
    else:
        show_bundle(bundle)
    return 0


def _verify(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export verify",
        description="Prove anew that a bundle answers as its source does, on this machine.",
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--against",
        metavar="SOURCE",
        help="the checkpoint to compare with; without it, the bundle's own golden answers",
    )
    parser.add_argument(
        "--texts", type=Path, help="a file of texts to compare on, a line each; with --against"
    )
    _add_json(parser)
    options = parser.parse_args(given)
    if options.texts and not options.against:
        parser.error("--texts goes with --against: golden answers have their own texts")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from export.console import show_parity
    from export.writing.verify import Texts, verify_against, verify_golden
    from models.bundle.bundle import Bundle
    from models.choice import list_choices
    from models.pipeline import Pipeline

    bundle = Bundle.open(options.bundle)
    texts = Texts.read(options.texts) if options.texts else None
    figures = []
    for precision, engine in list_choices(bundle):
        pipeline = Pipeline(bundle, precision=precision, engine=engine)
        if options.against:
            figures += verify_against(pipeline, options.against, texts)
        else:
            figures += verify_golden(pipeline)
    if options.json:
        _print_json([figure.model_dump(mode="json") for figure in figures])
    else:
        show_parity(figures)
    return 0


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, for scripts")


def _print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        if not names:
            raise argparse.ArgumentTypeError("name at least one")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
