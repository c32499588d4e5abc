"""Whether the graphs of a bundle are what its manifest says, found out when they are loaded.

Owns the questions and their errors. That the files are those that were exported is models/bundle's
to say; that their answers are right, models/golden's.
"""

import numpy as np

from models.bundle.bundle import MANIFEST, TOKENIZER, Bundle
from models.bundle.manifest import HeadEntry, Manifest
from models.choice import Choice
from models.engines import Session
from models.errors import BundleDamaged
from models.tasks import TASKS
from models.text.encoded import Encoded
from models.text.encoder import Encoder
from models.text.packing import lay_out, pack


def check_trunk(bundle: Bundle, choice: Choice, encoder: Encoder, trunk: Session) -> None:
    """Raise BundleDamaged where the trunk has not the sizes that the manifest says it has.

    Asks it once for the last token of the vocabulary at the last position: sizes that only
    the manifest has would otherwise be found out by a request.
    """
    manifest = bundle.manifest
    file = bundle.file(choice.trunk)
    known = max(encoder.tokenizer.get_vocab().values(), default=0)
    if known >= manifest.vocabulary_size:
        raise BundleDamaged(
            f"{bundle.file(TOKENIZER)} has token ids up to {known}, and the manifest a "
            f"vocabulary of {manifest.vocabulary_size}; export the bundle again"
        )
    text = [make_last_token(manifest)]
    start = manifest.position_start
    packed = lay_out(text, start) if choice.streams else pack(text, start, manifest.layout)
    position = np.array([manifest.position_start + manifest.max_tokens - 1], np.int64)
    try:
        hidden = trunk.run(packed.feeds | {"position_ids": position})
    except Exception as error:
        raise BundleDamaged(
            f"{file} has not the vocabulary of {manifest.vocabulary_size} or the "
            f"{manifest.max_tokens} positions that the manifest says; export the bundle again"
        ) from error
    if hidden.shape != (1, manifest.hidden_size):
        raise BundleDamaged(
            f"{file} gives {list(hidden.shape)} where the manifest says a hidden size of "
            f"{manifest.hidden_size}; export the bundle again"
        )


def check_head(bundle: Bundle, entry: HeadEntry, session: Session | None) -> None:
    """Raise BundleDamaged where a head has no graph, or one of another width."""
    if session is None:
        if TASKS[entry.task].weights:
            raise BundleDamaged(
                f"{bundle.file(MANIFEST)} names no file for {entry.task}, which has "
                "weights; export the bundle again"
            )
        return
    wanted = entry.dimensions if entry.labels is None else len(entry.labels)
    if wanted is not None and session.width not in (wanted, None):
        what = "dimensions" if entry.labels is None else "labels"
        raise BundleDamaged(
            f"{bundle.file(str(entry.file))} answers with {session.width} numbers, and "
            f"the manifest has {wanted} {what}; export the bundle again"
        )


def make_last_token(manifest: Manifest) -> Encoded:
    """The shortest text there is, of the last token that the vocabulary may have."""
    last = np.array([manifest.vocabulary_size - 1], np.int64)
    return Encoded(ids=last, type_ids=np.zeros_like(last))
