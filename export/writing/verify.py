"""The proof made anew, for a bundle that already exists: on another machine, after an upgrade.

Against its source the whole proof is repeated, and all that the bundle says of its answers is
compared; without it, the bundle's own golden answers are computed again.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from export.errors import ProofFailed, SourceError, UnsupportedModel
from export.proof.comparison import prove
from export.proof.original import ask_original
from export.reading.checkpoint import load_checkpoint, take_for_splade
from export.writing.differences import list_differences
from models.bundle.bundle import GOLDEN
from models.bundle.manifest import Parity
from models.errors import AnswersWrong, BundleDamaged
from models.golden import check_golden
from models.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a file, a line each, in place of the proof's own."""

    lines: Sequence[str]

    @classmethod
    def read(cls, file: Path) -> "Texts":
        """The lines of a file that are not empty. Raises SourceError."""
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{file} cannot be read as text: {error}") from None
        found = [line for line in lines if line]
        if len(found) < 2:
            raise SourceError(f"{file} has fewer than two lines of text; give some more")
        return cls(found)


def verify_against(pipeline: Pipeline, source: str, texts: Texts | None = None) -> list[Parity]:
    """Compare a bundle with a checkpoint. Raises ProofFailed where they differ."""
    manifest = pipeline.manifest
    checkpoint = load_checkpoint(source, embeds=manifest.tasks == ("embed",))
    served = {(head.task.name, head.entry.name) for head in pipeline.heads}
    if ("embed", "sparse") in served:
        # That it is one only --pooling may have said. What is none lacks the head, as is told next.
        with suppress(UnsupportedModel):
            take_for_splade(checkpoint)
    heads = [head for head in checkpoint.all_heads if (head.task, head.name) in served]
    missing = served - {(head.task, head.name) for head in heads}
    if missing:
        named = ", ".join(f"{task} {name or ''}".strip() for task, name in sorted(missing, key=str))
        raise ProofFailed(f"{source} has no head for {named}, which the bundle answers")
    differences = list_differences(manifest, checkpoint, heads)
    if differences:
        raise ProofFailed(
            f"{'; '.join(differences)}: {pipeline.bundle.path} does not answer as {source} does; "
            "export it again, or give the source that it was made from"
        )
    answers = ask_original(
        checkpoint,
        heads,
        progress=lambda _: None,
        lines=None if texts is None else texts.lines,
    )
    # What was accepted when it was made is accepted again, and said again.
    lossy = any(row.lossy for row in manifest.parity if row.precision == pipeline.precision)
    return prove(pipeline, answers, lambda _: None, accept_loss=lossy)


def verify_golden(pipeline: Pipeline) -> list[Parity]:
    """Compute a bundle's golden answers again. Raises ProofFailed where they come out otherwise."""
    try:
        deviations = check_golden(pipeline)
    except AnswersWrong as error:
        raise ProofFailed(error.message) from None
    if not deviations:
        raise BundleDamaged(
            f"{pipeline.bundle.file(GOLDEN)} holds no answers; export the bundle again"
        )
    return [
        Parity(
            task=each.task,
            head=each.head,
            precision=pipeline.precision,
            engine=pipeline.choice.engine,
            texts=each.texts,
            tokens=each.tokens,
            largest_difference=each.largest,
            largest_value=1.0,
            limit=each.limit,
        )
        for each in deviations
    ]
