"""Fill-mask: the likeliest words, and words of the caller's own."""

from collections.abc import Callable, Sequence
from typing import Any

from models.heads import FillMaskOptions
from models.pipeline import Pipeline
from tests.soak.comparison import Ranking
from tests.soak.kinds import Asked, Bad, Kind, Refused, make_kind
from tests.soak.texts import ITEMS, Texts

PATH = "/v1/fill-mask"
BAD: Bad = (({"inputs": "no mask here"}, Refused(422, "missing_mask")),)
# More candidates are known than are asked for: a tie may put another one in.
_KNOWN_CANDIDATES = 20


def make_kinds(pipeline: Pipeline, texts: Texts) -> list[Kind]:
    """With and without targets."""
    masked = [texts.mask() for _ in range(ITEMS)]
    targets = tuple(texts.words[:: len(texts.words) // 7])
    fill = Asked(PATH, "fill-mask", FillMaskOptions(top_k=_KNOWN_CANDIDATES), _wrap(5))
    aimed = Asked(
        PATH,
        "fill-mask",
        FillMaskOptions(targets=targets),
        _wrap(len(targets)),
        sent={"targets": list(targets)},
    )
    return [
        make_kind("fill-mask", [pipeline], masked, fill),
        make_kind("fill-mask targets", [pipeline], masked, aimed),
    ]


def make_others(versions: Sequence[Pipeline], texts: Texts) -> list[Kind]:
    """The small model has no such head."""
    return []


def _wrap(count: int) -> Callable[[Any], dict[str, Any]]:
    def wrap(masks: Any) -> dict[str, Any]:
        return {
            "masks": [mask | {"candidates": Ranking(count, mask["candidates"])} for mask in masks]
        }

    return wrap
