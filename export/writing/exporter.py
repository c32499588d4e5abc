"""From a loaded checkpoint to a bundle on disk, proven before anyone can see it.

Owns the order of an export's steps. Everything is written to a temporary directory beside the
destination, which gets its name only when it is complete: an export that fails or is killed leaves
nothing at OUT.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from export.errors import OutputError, ProofFailed, SourceError, UnsupportedModel
from export.graphs.forms import list_sights, write_kernels
from export.graphs.fp16 import narrow
from export.graphs.head import export_head, export_projection, export_tokens
from export.graphs.int8 import Inputs, Watcher, quantize
from export.graphs.kernels import Sight
from export.graphs.onnx_file import weigh_graph
from export.graphs.packed import write_packed
from export.graphs.trunk import export_trunk
from export.proof.company import measure_company
from export.proof.comparison import prove
from export.proof.golden import limit_golden, make_golden
from export.proof.original import References, ask_original, count_questions
from export.proof.processor import read_processor
from export.reading.checkpoint import Checkpoint, load_checkpoint
from export.reading.files import first_line
from export.reading.heads import SourceHead
from export.writing.manifest import Contents, describe_bundle, describe_heads, write_json
from export.writing.progress import Reporter, Silent, Stoppable
from export.writing.request import ExportRequest, Result, check_name, choose_heads
from export.writing.signals import Signals
from export.writing.staging import (
    check_apart,
    check_destination,
    clear_leftovers,
    place,
    stage,
)
from models.bundle.bundle import GOLDEN, MANIFEST, TOKENIZER, Bundle
from models.bundle.manifest import Parity, Proof, head_file, trunk_file
from models.choice import list_choices
from models.engines import KERNELS
from models.engines.library import Kernels, NoKernels, find_kernels
from models.errors import BundleError, CallerError, ClozeError
from models.machine.limits import count_cores
from models.pipeline import Pipeline

# Which our own operators compute, too; bf16 they alone.
_KERNELS_FORMS = ("fp32", "int8", "bf16")


def export_bundle(request: ExportRequest, report: Reporter | None = None) -> Result:
    """Make, prove and place a bundle. Raises an ExportError, and then leaves nothing at OUT.

    Told to end by a signal it raises Stopped, and leaves nothing either; what was at OUT stays.
    """
    began = time.perf_counter()
    with Signals() as signals:
        report = Stoppable(report or Silent(), signals)
        leftovers = clear_leftovers(request.out)
        check_destination(request.out, replace=request.replace)
        check_apart(request.out, request.source)
        check_name(request)
        report.begin("read the checkpoint")
        embeds = request.tasks == ("embed",)
        checkpoint = load_checkpoint(
            request.source, request.revision, embeds=embeds, splade=request.pooling == "splade"
        )
        heads = choose_heads(checkpoint, request.tasks)
        with stage(request.out) as folder:
            fused, notes = _fill(folder, request, checkpoint, heads, report)
            signals.check()
            signals.hold()
            place(folder, request.out, replace=request.replace)
        bundle = Bundle.open(request.out)
    notes = leftovers + checkpoint.notes + notes
    return Result(bundle, fused, time.perf_counter() - began, notes)


def _fill(
    folder: Path,
    request: ExportRequest,
    checkpoint: Checkpoint,
    heads: Sequence[SourceHead],
    report: Reporter,
) -> tuple[int, list[str]]:
    """Make all of the bundle in the folder; the number of fused nodes, and notes."""
    # The trunk's own head comes first, where it is among them.
    embeds = any(not head.weights for head in heads)
    projection = checkpoint.read_projection() if embeds else None
    entries, notes = describe_heads(request, checkpoint, heads)
    report.begin("ask the original", count_questions(heads))
    watcher = Watcher(checkpoint.trunk) if "int8" in request.precisions else None
    with watcher.watch() if watcher else nullcontext():
        answers = _ask(checkpoint, heads, report)
    inputs = watcher.inputs() if watcher else Inputs()
    if projection is not None:
        entries[0] = entries[0].model_copy(
            update={"file": head_file(heads[0].task, None), "dimensions": answers.dimensions}
        )
    with _explained(request, checkpoint):
        fused = _write_graphs(folder, checkpoint, heads, projection, report)
        sights = _list_sights(checkpoint)
        checkpoint.release()
        gc.collect()
        _write_precisions(folder, request.precisions, inputs, report)
        _write_forms(folder, request.precisions, sights, inputs)
        weights = {file.name: weigh_graph(file) for file in sorted(folder.glob("*.onnx"))}
        contents = Contents(entries, fused, weights)
        # Read once as a bundle without golden answers, to write them in the bundle's own terms.
        (folder / GOLDEN).write_text("{}")
        manifest = describe_bundle(folder, request, checkpoint, contents)
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
        report.begin("prove the bundle", None)
        parity, proof = _prove(folder, request, answers, report)
        manifest = describe_bundle(folder, request, checkpoint, contents)
        proven = manifest.model_copy(update={"parity": tuple(parity), "proof": proof})
        write_json(folder / MANIFEST, proven.model_dump(mode="json"))
    return fused, notes


def _ask(checkpoint: Checkpoint, heads: Sequence[SourceHead], report: Reporter) -> References:
    """The original's answers. Raises SourceError where it has none to its own texts."""
    try:
        return ask_original(checkpoint, heads, progress=lambda _: report.advance())
    except ClozeError:
        raise
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise SourceError(
            f"{checkpoint.path} cannot be run: {first_line(error)}; its config.json and its "
            "tokenizer have to fit its weights"
        ) from error


@contextmanager
def _explained(request: ExportRequest, checkpoint: Checkpoint) -> Iterator[None]:
    """What goes wrong while the folder is filled, as an ExportError that says what is left."""
    try:
        yield
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


def _write_graphs(
    folder: Path,
    checkpoint: Checkpoint,
    heads: Sequence[SourceHead],
    projection: torch.nn.Module | None,
    report: Reporter,
) -> int:
    """The tokenizer, the trunk in fp32 and the heads; the number of fused nodes."""
    tokenizer = checkpoint.tokenizer.backend_tokenizer.to_str(pretty=True)
    (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    report.begin("export the trunk")
    layout = checkpoint.family.layout
    aside = checkpoint.late is not None and checkpoint.late.aside
    fused = export_trunk(checkpoint.trunk, folder / trunk_file("fp32"), layout, aside=aside)
    # By file: sparse vectors and fill-mask have one graph.
    weighted = {head.file: head for head in heads if head.weights}
    report.begin("export the heads", len(weighted))
    if projection is not None:
        export_projection(
            projection, checkpoint.pooled_size, folder / head_file(heads[0].task, None)
        )
    for name, head in weighted.items():
        if head.late is not None:
            export_tokens(head.late.modules, checkpoint.config.hidden_size, folder / name)
        else:
            export_head(head, checkpoint.family, folder / name)
        report.advance()
    return fused


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


def _write_forms(
    folder: Path, precisions: Sequence[str], sights: Sequence[Sight] | None, inputs: Inputs
) -> None:
    """The trunk for our own kernels, too, where it has that form and they run here.

    The trunk in fp32, of which all are made, goes where nobody asked for it.
    """
    single = folder / trunk_file("fp32")
    kept = [folder / trunk_file(each) for each in precisions if each != "bf16"]
    kernels = find_kernels()
    wanted = [each for each in precisions if each in _KERNELS_FORMS]
    reason = "the kernels do not compute its attention"
    if isinstance(kernels, NoKernels):
        reason = kernels.reason
    elif sights is not None:
        for precision in wanted:
            target = folder / trunk_file(precision, KERNELS)
            write_kernels(single, target, precision, sights, inputs=inputs, beside=kept)
    if "fp16" in precisions and sights is not None:
        write_packed(folder / trunk_file("fp16"), folder / trunk_file("fp16", "packed"), sights)
    if "bf16" in precisions and not (folder / trunk_file("bf16", KERNELS)).exists():
        raise UnsupportedModel(f"there is no bf16 of it: {reason}; leave that precision out")
    if "fp32" not in precisions:
        for file in folder.glob(f"{single.name}*"):
            file.unlink()


def _list_sights(checkpoint: Checkpoint) -> list[Sight] | None:
    """What each layer's attention sees; None where tokens see each other otherwise, too."""
    aside = checkpoint.late is not None and checkpoint.late.aside
    if checkpoint.family.layout != "flat" or aside:
        return None
    return list_sights(checkpoint.trunk)


def _prove(
    folder: Path, request: ExportRequest, answers: References, report: Reporter
) -> tuple[list[Parity], Proof]:
    """Prove every precision, and write golden.json with what each may deviate by."""
    began = time.perf_counter()
    parity: list[Parity] = []
    company: dict[str, float] = {}
    golden: dict[str, Any] = {}
    for precision, engine in list_choices(Bundle.open(folder)):
        pipeline = Pipeline.open(folder, precision=precision, engine=engine)
        parity += prove(
            pipeline, answers, lambda _: report.advance(), accept_loss=request.accept_loss
        )
        alone = measure_company(pipeline)
        company[precision] = min(alone, company.get(precision, alone))
        golden = golden or make_golden(answers, pipeline)
        if precision != "fp32":
            limit_golden(golden, pipeline)
    write_json(folder / GOLDEN, golden)
    processor, features = read_processor()
    kernels = find_kernels()
    proof = Proof(
        processor=processor,
        features=features,
        threads=count_cores(),
        seconds=round(time.perf_counter() - began, 1),
        company_cosine=company,
        kernels=kernels.instructions if isinstance(kernels, Kernels) else None,
    )
    return parity, proof
