"""What an export is asked for, what of it the checkpoint can give, and what came of it.

Owns the choices there are. Reads no files and writes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from export.errors import OutputError, UnsupportedModel
from export.reading.checkpoint import Checkpoint
from export.reading.heads import SourceHead
from models.bundle.bundle import Bundle
from models.bundle.manifest import Pooling
from models.tasks import TASKS, Rows


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export: a directory or hub id, where to, and the choices there are."""

    source: str
    out: Path
    tasks: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = ("fp32",)
    pooling: Pooling | Literal["splade"] | None = None
    entailment: str | None = None
    name: str | None = None
    revision: str | None = None
    replace: bool = False
    accept_loss: bool = False

    @property
    def bundle_name(self) -> str:
        """The name the service will show."""
        return self.name or self.out.name


@dataclass(slots=True)
class Result:
    """What an export made: the bundle, what is worth telling about it, and the seconds it took."""

    bundle: Bundle
    fused_nodes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def check_name(request: ExportRequest) -> None:
    """Raise OutputError where OUT is no new directory's name, or the bundle's name is not text."""
    if request.out.name in ("", ".."):
        raise OutputError(f"{request.out} is not the name of a new directory; give one as OUT")
    try:
        request.bundle_name.encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"the name of {str(request.out)!r} is not text, which a bundle's is; give --name"
        ) from None


def choose_heads(checkpoint: Checkpoint, wanted: Sequence[str] | None) -> list[SourceHead]:
    """The heads to export. Raises UnsupportedModel for a task the source cannot answer."""
    offered = checkpoint.tasks
    for task in wanted or ():
        if task not in offered:
            raise UnsupportedModel(
                f"{checkpoint.name} ({checkpoint.architecture}) has no weights for {task}; "
                f"it answers {', '.join(offered)}"
            )
    chosen = checkpoint.default_tasks if wanted is None else wanted
    for task in chosen:
        if TASKS[task].rows is Rows.MASK and checkpoint.tokenizer.mask_token is None:
            raise UnsupportedModel(
                f"{checkpoint.path} has weights for {task}, and its tokenizer no mask token; name "
                "it as mask_token in tokenizer_config.json, or leave the task out with --tasks"
            )
    return [head for head in checkpoint.all_heads if head.task in chosen]
