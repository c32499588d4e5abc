"""From a loaded checkpoint to a bundle on disk, proven before anyone can see it.

Everything is written to a temporary directory beside the destination, which gets its name only
when it is complete: an export that fails or is killed leaves nothing at OUT.
"""

import gc
import importlib.metadata
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from export.errors import OutputError, ProofFailed, SourceError, UnsupportedModel
from export.graphs.fp16 import narrow
from export.graphs.head import export_head, export_projection
from export.graphs.int8 import Inputs, Watcher, quantize
from export.graphs.onnx_file import weigh_graph
from export.graphs.trunk import export_trunk
from export.proof.comparison import (
    References,
    ask_original,
    count_questions,
    limit_golden,
    make_golden,
    measure_company,
    prove,
)
from export.proof.processor import read_processor
from export.reading.checkpoint import Checkpoint, load_checkpoint
from export.reading.files import first_line
from export.reading.heads import SourceHead
from export.reading.pooling import find_pooling
from export.writing.staging import (
    Signals,
    check_apart,
    check_destination,
    clear_leftovers,
    place,
    stage,
)
from models.bundle.bundle import GOLDEN, MANIFEST, TOKENIZER, Bundle, hash_file
from models.bundle.manifest import (
    FORMAT_VERSION,
    FileEntry,
    HeadEntry,
    Manifest,
    Parity,
    Pooling,
    Proof,
    Source,
    SpecialToken,
    head_file,
    trunk_file,
)
from models.errors import BundleError, CallerError, ClozeError
from models.machine.limits import count_cores
from models.pipeline import Pipeline

_TOOLS = ("torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime")


class Reporter(Protocol):
    """Hears how far an export is."""

    def begin(self, step: str, total: int | None = None) -> None:
        """A step begins, of so many parts where that is known."""

    def advance(self) -> None:
        """A part of the step is done."""


class Silent:
    """A reporter that says nothing."""

    def begin(self, step: str, total: int | None = None) -> None:
        """Hear that a step begins."""

    def advance(self) -> None:
        """Hear that a part is done."""


class _Stoppable:
    """A reporter that stops where a signal came that a library swallowed."""

    def __init__(self, report: Reporter, signals: Signals) -> None:
        self._report = report
        self._signals = signals

    def begin(self, step: str, total: int | None = None) -> None:
        """Pass it on."""
        self._signals.check()
        self._report.begin(step, total)

    def advance(self) -> None:
        """Pass it on."""
        self._signals.check()
        self._report.advance()


@dataclass(frozen=True, slots=True)
class Request:
    """What to export: a directory or hub id, where to, and the choices there are."""

    source: str
    out: Path
    tasks: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("fp32",)
    pooling: Pooling | None = None
    name: str | None = None
    revision: str | None = None
    replace: bool = False
    accept_loss: bool = False


@dataclass(slots=True)
class Result:
    """What an export made: the bundle, what is worth telling about it, and the seconds it took."""

    bundle: Bundle
    fused_nodes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def export_bundle(request: Request, report: Reporter | None = None) -> Result:
    """Make, prove and place a bundle. Raises an ExportError, and then leaves nothing at OUT.

    Told to end by a signal it raises Stopped, and leaves nothing either; what was at OUT stays.
    """
    began = time.perf_counter()
    with Signals() as signals:
        report = _Stoppable(report or Silent(), signals)
        leftovers = clear_leftovers(request.out)
        check_destination(request.out, replace=request.replace)
        check_apart(request.out, request.source)
        _check_name(request)
        report.begin("read the checkpoint")
        checkpoint = load_checkpoint(request.source, request.revision)
        heads, embed = choose_tasks(checkpoint, request.tasks)
        with stage(request.out) as folder:
            fused, notes = _fill(folder, request, checkpoint, heads, embed=embed, report=report)
            signals.check()
            signals.hold()
            place(folder, request.out, replace=request.replace)
        bundle = Bundle.open(request.out)
    notes = leftovers + checkpoint.notes + notes
    return Result(bundle, fused, time.perf_counter() - began, notes)


def choose_tasks(
    checkpoint: Checkpoint, wanted: Sequence[str] | None
) -> tuple[list[SourceHead], bool]:
    """The heads to export, and whether to export embed. Raises for a task the source lacks."""
    offered = checkpoint.tasks
    for task in wanted or ():
        if task not in offered:
            raise UnsupportedModel(
                f"{checkpoint.name} ({checkpoint.architecture}) has no weights for {task}; "
                f"it answers {', '.join(offered)}"
            )
    chosen = offered if wanted is None else wanted
    if "fill-mask" in chosen and checkpoint.tokenizer.mask_token is None:
        raise UnsupportedModel(
            f"{checkpoint.path} has weights for fill-mask, and its tokenizer no mask token; name "
            "it as mask_token in tokenizer_config.json, or leave the task out with --tasks"
        )
    return [head for head in checkpoint.heads if head.task in chosen], "embed" in chosen


def _fill(
    folder: Path,
    request: Request,
    checkpoint: Checkpoint,
    heads: Sequence[SourceHead],
    *,
    embed: bool,
    report: Reporter,
) -> tuple[int, list[str]]:
    projection = checkpoint.read_projection() if embed else None
    entries, notes = _describe_heads(request, checkpoint, heads, embed=embed)
    report.begin("ask the original", count_questions(heads, embed=embed))
    watcher = Watcher(checkpoint.trunk) if "int8" in request.precisions else None
    with watcher.watch() if watcher else nullcontext():
        answers = _ask(checkpoint, heads, embed=embed, report=report)
    inputs = watcher.inputs() if watcher else {}
    if projection is not None:
        entries[0] = entries[0].model_copy(
            update={"file": head_file("embed", None), "dimensions": answers.dimensions}
        )
    try:
        tokenizer = checkpoint.tokenizer.backend_tokenizer.to_str(pretty=True)
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        report.begin("export the trunk")
        layout = checkpoint.family.layout
        fused = export_trunk(checkpoint.trunk, folder / trunk_file("fp32"), layout)
        report.begin("export the heads", len(heads))
        if projection is not None:
            export_projection(
                projection, checkpoint.config.hidden_size, folder / head_file("embed", None)
            )
        for head in heads:
            export_head(head, checkpoint.family, folder / head_file(head.task, head.name))
            report.advance()
        checkpoint.release()
        gc.collect()
        _write_precisions(folder, request.precisions, inputs, report)
        weights = {file.name: weigh_graph(file) for file in sorted(folder.glob("*.onnx"))}
        # Read once as a bundle without golden answers, to write them in the bundle's own terms.
        (folder / GOLDEN).write_text("{}")
        manifest = _describe(folder, request, checkpoint, entries, fused, weights)
        _write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
        report.begin("prove the bundle", None)
        parity, proof = _prove(folder, request, answers, report)
        manifest = _describe(folder, request, checkpoint, entries, fused, weights)
        proven = manifest.model_copy(update={"parity": tuple(parity), "proof": proof})
        _write_json(folder / MANIFEST, proven.model_dump(mode="json"))
    except ProofFailed as error:
        raise ProofFailed(f"{error.message}; nothing was written") from None
    except (BundleError, CallerError) as error:
        raise ProofFailed(
            f"what was made of {checkpoint.path} does not answer: {error}; nothing was written"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{request.out} cannot be written: {error.strerror or error}; nothing was left there"
        ) from error
    return fused, notes


def _write_precisions(
    folder: Path, precisions: Sequence[str], inputs: Inputs, report: Reporter
) -> None:
    """The trunk in each precision, from the one in fp32, which goes where nobody asked for it."""
    single = folder / trunk_file("fp32")
    if "int8" in precisions:
        report.begin("quantize the trunk")
        if not quantize(single, folder / trunk_file("int8"), inputs):
            raise UnsupportedModel("the trunk has no product of linear layers to compute in int8")
    if "fp16" in precisions:
        report.begin("narrow the trunk")
        narrow(single, folder / trunk_file("fp16"))
    if "fp32" not in precisions:
        for file in folder.glob(f"{single.name}*"):
            file.unlink()


def _prove(
    folder: Path, request: Request, answers: References, report: Reporter
) -> tuple[list[Parity], Proof]:
    """Prove every precision, and write golden.json with what each may deviate by."""
    began = time.perf_counter()
    parity: list[Parity] = []
    company: dict[str, float] = {}
    golden: dict[str, Any] = {}
    for precision in request.precisions:
        pipeline = Pipeline.open(folder, precision=precision)
        parity += prove(
            pipeline, answers, lambda _: report.advance(), accept_loss=request.accept_loss
        )
        company[precision] = measure_company(pipeline)
        golden = golden or make_golden(answers, pipeline)
        if precision != "fp32":
            limit_golden(golden, pipeline)
    _write_json(folder / GOLDEN, golden)
    processor, features = read_processor()
    proof = Proof(
        processor=processor,
        features=features,
        threads=count_cores(),
        seconds=round(time.perf_counter() - began, 1),
        company_cosine=company,
    )
    return parity, proof


def _ask(
    checkpoint: Checkpoint, heads: Sequence[SourceHead], *, embed: bool, report: Reporter
) -> References:
    """The original's answers. Raises SourceError where it has none to its own texts."""
    try:
        return ask_original(checkpoint, heads, embed=embed, progress=lambda _: report.advance())
    except ClozeError:
        raise
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise SourceError(
            f"{checkpoint.path} cannot be run: {first_line(error)}; its config.json and its "
            "tokenizer have to fit its weights"
        ) from error


def _check_name(request: Request) -> None:
    if request.out.name in ("", ".."):
        raise OutputError(f"{request.out} is not the name of a new directory; give one as OUT")
    try:
        (request.name or request.out.name).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"the name of {str(request.out)!r} is not text, which a bundle's is; give --name"
        ) from None


def _describe_heads(
    request: Request, checkpoint: Checkpoint, heads: Sequence[SourceHead], *, embed: bool
) -> tuple[list[HeadEntry], list[str]]:
    entries: list[HeadEntry] = []
    notes: list[str] = []
    if embed:
        pooling, origin = find_pooling(checkpoint.path, request.pooling)
        if request.pooling and request.pooling != pooling:
            notes.append(
                f"--pooling {request.pooling} was not used: the checkpoint says {pooling}; "
                + (
                    "requests may still ask for another"
                    if checkpoint.read_projection() is None
                    else "its Dense modules know no other"
                )
            )
        entries.append(HeadEntry(task="embed", pooling=pooling, pooling_source=origin))
    entries += [
        HeadEntry(
            task=head.task,
            name=head.name,
            file=head_file(head.task, head.name),
            labels=head.labels,
            problem_type=head.problem_type,
            function=head.function,
            pooling=head.pooling,
        )
        for head in heads
    ]
    return entries, notes


def _describe(  # noqa: PLR0917 - what a manifest is made of
    folder: Path,
    request: Request,
    checkpoint: Checkpoint,
    entries: Sequence[HeadEntry],
    fused: int,
    weights: Mapping[str, int],
) -> Manifest:
    tokenizer = checkpoint.tokenizer
    special = {
        kind: SpecialToken(token=token, id=tokenizer.convert_tokens_to_ids(token))
        for kind in ("pad", "cls", "sep", "mask", "unk")
        if (token := getattr(tokenizer, f"{kind}_token", None)) is not None
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        name=request.name or request.out.name,
        family=checkpoint.family.name,
        layout=checkpoint.family.layout,
        max_tokens=checkpoint.max_tokens,
        hidden_size=checkpoint.config.hidden_size,
        layers=checkpoint.config.num_hidden_layers,
        vocabulary_size=checkpoint.config.vocab_size,
        position_start=checkpoint.position_start,
        segments=checkpoint.segments,
        special_tokens=special,
        tasks=tuple(dict.fromkeys(entry.task for entry in entries)),
        heads=tuple(entries),
        precisions=request.precisions,
        fused_attention=fused,
        files={
            file.name: FileEntry(
                sha256=hash_file(file),
                bytes=file.stat().st_size,
                loaded_bytes=weights.get(file.name),
            )
            for file in sorted(folder.iterdir())
            if file.name != MANIFEST
        },
        source=Source(
            name=checkpoint.name.encode("utf-8", "replace").decode(),
            revision=checkpoint.revision,
            architecture=checkpoint.architecture,
            config_sha256=checkpoint.config_sha256,
        ),
        # Without the build (+cpu, +cu130): it is the machine's, and the graphs are the same.
        tools={name: importlib.metadata.version(name).partition("+")[0] for name in _TOOLS},
        parity=(),
    )


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
