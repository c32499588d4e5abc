"""How the tokens of a text look at each other: the attention of one layer, for people to look at.

Owns what is computed from queries and keys, and which of a trunk's graph is run for them. That is
the standard graph in fp32, whatever precision serves, cut off at the layer that is asked for: the
weights are mapped from its file (models/engines/onnx_view.py), so that what looking costs beside
the model is megabytes. The first look reads the file once, to see that it is the one that was
exported, and so does the first after somebody wrote into it. One layer is held open at a time:
another one takes about as long again as a look itself.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.derived.graph_file import GraphFile
from models.engines.onnx_view import OnnxView
from models.errors import CallerError, InputTooLong, InvalidValue, TaskUnsupported
from models.heads.head import softmax
from models.lens.taps import AttentionTap, find_attention
from models.text.encoded import Encoded
from models.text.encoder import Encoder
from models.text.listing import check_list
from models.text.packing import pack
from models.text.truncation import CUT_IT, Overflow, Side

Floats = NDArray[np.float32]
Included = Literal["q", "k"]
Text = str | tuple[str, str]

MAX_ATTENTION_TOKENS = 256
_PRECISION = "fp32"


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Of which layer, and of which of its heads: left out, of all of them.

    `include` asks for the queries and keys of that head, too. A text may have `max_tokens`, and
    `limited_by` is what an error calls that number.
    """

    layer: int = 0
    head: int | None = None
    include: tuple[Included, ...] = ()
    overflow: Overflow = "error"
    truncation_side: Side | None = None
    max_tokens: int = MAX_ATTENTION_TOKENS
    limited_by: str = "max_tokens"


@dataclass(frozen=True, slots=True)
class SeenToken:
    """A token of a text: what of it, from where to where in characters of the text as it was sent.

    Of a pair each counts in its own text. A special token has no place, and its own name as text.
    """

    text: str
    id: int
    start: int | None
    end: int | None
    special: bool


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """The attention [heads, T, T] of a layer over T tokens: row i is what token i looks at.

    `q` and `k` [T, size] are there where they were asked for; `encoded` says what was cut.
    """

    tokens: list[SeenToken]
    attention: Floats
    q: Floats | None
    k: Floats | None
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class _View:
    """A layer that is open."""

    layer: int
    tap: AttentionTap
    session: OnnxView


class Lens:
    """Looks into the trunk of a bundle. Nothing is opened before it is first asked; thread-safe."""

    def __init__(self, bundle: Bundle, encoder: Encoder) -> None:
        self._bundle = bundle
        self._encoder = encoder
        self._file = GraphFile(bundle, trunk_file(_PRECISION))
        self._view: _View | None = None
        self._opening = threading.Lock()

    @property
    def sees(self) -> bool:
        """Whether the bundle has what is looked into."""
        manifest = self._bundle.manifest
        return manifest.layout == "flat" and _PRECISION in manifest.precisions

    def resolve(self, options: AttentionOptions) -> AttentionOptions:
        """Raises TaskUnsupported for a bundle it cannot look into, InvalidValue for a wrong option.

        Whether there is such a head, only a look tells.
        """
        manifest = self._bundle.manifest
        if not self.sees:
            why = (
                f"its family, {manifest.family}, computes attention in many steps"
                if manifest.layout != "flat"
                else f"its bundle has no {_PRECISION}"
            )
            raise TaskUnsupported(
                f"model {manifest.name!r} does not show its attention: {why}; ask another one",
                param="model",
            )
        if not 0 <= options.layer < manifest.layers:
            raise InvalidValue(
                f"{options.layer} is outside 0 to {manifest.layers - 1}, the model's layers",
                param="layer",
            )
        if options.head is not None and options.head < 0:
            raise InvalidValue(f"{options.head} is below 0", param="head")
        unknown = [name for name in options.include if name not in get_args(Included)]
        if unknown:
            raise InvalidValue(f"{unknown[0]!r} is neither q nor k", param="include")
        if options.include and options.head is None:
            raise InvalidValue("q and k are those of one head; say which", param="include")
        return options

    def encode(
        self,
        items: Sequence[Text],
        options: AttentionOptions,
        check: Callable[[], None] = lambda: None,
    ) -> list[Encoded]:
        """The tokens of texts and pairs, as they may be looked at; an error names the place.

        `check` is called before each, to raise where nobody waits any more.
        """
        check_list(items)
        encoded = []
        for place, item in enumerate(items):
            check()
            try:
                encoded.append(self._encode(item, options))
            except CallerError as error:
                raise error.at("inputs", place) from None
        return encoded

    def _encode(self, item: Text, options: AttentionOptions) -> Encoded:
        text, pair = (item, None) if isinstance(item, str) else item
        cutting = options.overflow == "truncate"
        encoder = self._encoder.limit(options.max_tokens) if cutting else self._encoder
        encoded = encoder.encode(
            text, pair, overflow=options.overflow, side=options.truncation_side, origins=True
        )
        if len(encoded.ids) > options.max_tokens:
            raise InputTooLong(
                f"the text has {len(encoded.ids)} tokens, and attention is shown of "
                f"{options.max_tokens} at most ({options.limited_by}); shorten it, or {CUT_IT}"
            )
        return encoded

    def count_heads(self, options: AttentionOptions) -> int:
        """How many heads an answer tells of. Raises InvalidValue where there is none such."""
        heads = self._open(options.layer).tap.heads
        if options.head is None:
            return heads
        if options.head >= heads:
            raise InvalidValue(
                f"{options.head} is outside 0 to {heads - 1}, the heads of a layer", param="head"
            )
        return 1

    def look(self, item: Text, encoded: Encoded, options: AttentionOptions) -> AttentionMap:
        """The attention of one text, alone. Raises what `count_heads` does, and BundleDamaged."""
        self.count_heads(options)
        view = self._open(options.layer)
        tap = view.tap
        packed = pack([encoded], self._bundle.manifest.position_start)
        # Alone a text is a row: its cells stand in its order.
        query, key, *bias = view.session.run(tap.names, packed.feeds)
        heads = slice(None) if options.head is None else slice(options.head, options.head + 1)
        queries, keys = (_split(side[0], tap.heads)[heads] for side in (query, key))
        scale = tap.scale or queries.shape[-1] ** -0.5
        scores = queries @ keys.transpose(0, 2, 1) * np.float32(scale)
        if bias:
            own = bias[0][0]
            scores += own[heads] if len(own) > 1 else own
        return AttentionMap(
            tokens=self._name_tokens(item, encoded),
            attention=softmax(scores),
            q=np.ascontiguousarray(queries[0]) if "q" in options.include else None,
            k=np.ascontiguousarray(keys[0]) if "k" in options.include else None,
            encoded=encoded,
        )

    def _name_tokens(self, item: Text, encoded: Encoded) -> list[SeenToken]:
        origins = encoded.origins
        assert origins is not None  # they were asked for
        texts = (item,) if isinstance(item, str) else item
        tokens = []
        for id_, text, (start, end) in zip(
            encoded.ids.tolist(), origins.texts.tolist(), origins.offsets.tolist(), strict=True
        ):
            if text < 0:
                name = self._encoder.tokenizer.id_to_token(id_) or ""
                tokens.append(SeenToken(name, id_, None, None, special=True))
                continue
            begin, stop = _leave_out_blanks(texts[text], start, end)
            written = texts[text][begin:stop]
            tokens.append(SeenToken(written, id_, begin, stop, special=False))
        return tokens

    def _open(self, layer: int) -> _View:
        with self._opening:
            if self._file.changed or self._view is None or self._view.layer != layer:
                self._view = None  # let go of before the next one comes
                self._view = self._read(layer)
            return self._view

    def _read(self, layer: int) -> _View:
        manifest = self._bundle.manifest
        with self._file.open() as graph:
            taps = find_attention(graph)
            if taps is None or len(taps) != manifest.layers:
                raise TaskUnsupported(
                    f"the graph of model {manifest.name!r} has no attention that can be followed; "
                    "ask another one",
                    param="model",
                )
            part = graph.cut(taps[layer].names)
        return _View(layer, taps[layer], OnnxView(part, self._bundle.path))


def _split(rows: Floats, heads: int) -> Floats:
    """The rows [T, heads * size] of each head, [heads, T, size]."""
    return rows.reshape(len(rows), heads, -1).transpose(1, 0, 2)


def _leave_out_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a token without the blanks before it, which some tokenizers count in."""
    written = text[start:end]
    if not written.strip():
        return start, end
    return end - len(written.lstrip()), start + len(written.rstrip())
