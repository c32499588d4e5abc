"""What is asked, and the known answers: computed beforehand by models.Pipeline, item by item.

An answer does not depend on who shares the request or the batch, so a request is any items of a
kind, and its answer theirs in the same order.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.texts import list_words
from models.heads import (
    ClassifyOptions,
    EmbedOptions,
    FillMaskOptions,
    Job,
    NextSentenceOptions,
    spread,
)
from models.pipeline import Pipeline, form_batches, prepare
from models.text.encoder import Encoder
from tests.soak.bundles import MAIN, OTHER, Bundles
from tests.soak.comparison import Ranking

ITEMS = 32
EMBED, FILL, NEXT, CLASSIFY = (
    "/v1/embeddings",
    "/v1/fill-mask",
    "/v1/next-sentence",
    "/v1/classify",
)
# More candidates are known than are asked for: a tie may put another one in.
_KNOWN_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Known:
    """One item as it is sent, and its answer as it stands in the result, as JSON."""

    item: Any
    answer: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to ask: a route, its options, and items with answers for each version of the model.

    `model` is the name that answers; `named` whether requests must name it.
    """

    name: str
    path: str
    model: str
    options: Mapping[str, Any]
    versions: Sequence[Sequence[Known]]
    named: bool = False

    @property
    def field(self) -> str:
        """The name its items have in a request."""
        return "input" if self.path == EMBED else "inputs"

    def body(self, places: Sequence[int], *, named: bool) -> dict[str, Any]:
        """A request for the items at these places."""
        items = [self.versions[0][place].item for place in places]
        model = {"model": self.model} if named or self.named else {}
        return {self.field: items, **self.options, **model}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Every kind, and a text that no model takes whole."""

    kinds: Sequence[Kind]
    long_text: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a pipeline is asked for the items of a kind; `wrap` makes JSON of an answer."""

    task: str
    options: Any
    wrap: Callable[[Any], dict[str, Any]]
    head: str | None = None


class _Texts:
    """Draws texts of words that are one token each."""

    def __init__(self, encoder: Encoder, chance: random.Random) -> None:
        self.words = list_words(encoder)
        self.most = encoder.max_tokens - 2
        self._chance = chance

    def draw(self) -> str:
        """From one token to as many as the model takes, mostly a sentence or two."""
        count = round(min(self.most, max(2, self._chance.lognormvariate(3.0, 0.8))))
        if self._chance.random() < 0.1:
            count = self._chance.choice([1, self.most])
        return self.join(count)

    def join(self, count: int) -> str:
        """So many words."""
        return " ".join(self._chance.choices(self.words, k=count))

    def mask(self) -> str:
        """A text with one or two masks."""
        found = self.draw().split()
        for _ in range(self._chance.choice([1, 1, 2])):
            found[self._chance.randrange(len(found))] = "[MASK]"
        return " ".join(found)

    def pair(self) -> tuple[str, str]:
        """Two texts that fit into one input."""
        half = self.most // 2 - 1
        first, second = (" ".join(self.draw().split()[:half]) for _ in range(2))
        return first, second

    def too_long(self) -> str:
        """A text that has to be cut."""
        return self.join(2 * self.most)


def make_corpus(bundles: Bundles, chance: random.Random) -> Corpus:
    """Draw items of all lengths, and compute their answers."""
    pipeline = Pipeline.open(bundles.path(MAIN))
    small = [Pipeline.open(bundles.version_path(version)) for version in range(2)]
    drawn = _Texts(pipeline.encoder, chance)
    texts = [drawn.draw() for _ in range(ITEMS)]
    kinds = [*_make_embeds(pipeline, texts, drawn), *_make_others(pipeline, texts, drawn)]
    kinds.append(_make(("other embed", EMBED), small, texts, _EMBED))
    kinds.append(_make(("other classify", CLASSIFY), small, texts, _classify(None, 2)))
    return Corpus(kinds, drawn.too_long())


def _make_embeds(pipeline: Pipeline, texts: Sequence[str], drawn: _Texts) -> list[Kind]:
    main = [pipeline]
    tokens = [pipeline.encoder.encode(text, overflow="error").ids.tolist() for text in texts]
    some_long = [*texts[: ITEMS // 2], *(drawn.too_long() for _ in range(4))]
    cut = _Asked(
        "embed",
        EmbedOptions(None, normalize=False, dimensions=64, overflow="truncate"),
        _wrap_vector,
    )
    truncate = {"normalize": False, "dimensions": 64, "overflow": "truncate"}
    return [
        _make(("embed", EMBED), main, texts, _EMBED),
        _make(("embed base64", EMBED), main, texts, _EMBED, encoding_format="base64"),
        _make(("embed token ids", EMBED), main, tokens, _EMBED),
        _make(("embed truncated", EMBED), main, some_long, cut, **truncate),
    ]


def _make_others(pipeline: Pipeline, texts: Sequence[str], drawn: _Texts) -> list[Kind]:
    main = [pipeline]
    masked = [drawn.mask() for _ in range(ITEMS)]
    pairs = [drawn.pair() for _ in range(ITEMS)]
    targets = tuple(drawn.words[:: len(drawn.words) // 7])
    fill = _Asked("fill-mask", FillMaskOptions(top_k=_KNOWN_CANDIDATES), _wrap_masks(5))
    aimed = _Asked("fill-mask", FillMaskOptions(targets=targets), _wrap_masks(len(targets)))
    follow = _Asked("next-sentence", NextSentenceOptions(), dict)
    labels = len(pipeline.find_head("classify", "emotions").entry.labels or ())
    emotions = _classify("emotions", labels)
    three = _classify("intents", 3)
    return [
        _make(("fill-mask", FILL), main, masked, fill),
        _make(("fill-mask targets", FILL), main, masked, aimed, targets=list(targets)),
        _make(("next-sentence", NEXT), main, pairs, follow),
        _make(("classify", CLASSIFY), main, texts, _classify("sentiment", 2), head="sentiment"),
        _make(("classify pairs", CLASSIFY), main, pairs, emotions, head="emotions"),
        _make(("classify three", CLASSIFY), main, texts, three, head="intents", top_k=3),
    ]


def _classify(head: str | None, count: int) -> _Asked:
    return _Asked("classify", ClassifyOptions(), _wrap_labels(count), head)


def _make(
    name_and_path: tuple[str, str],
    pipelines: Sequence[Pipeline],
    items: Sequence[Any],
    asked: _Asked,
    **options: Any,
) -> Kind:
    name, path = name_and_path
    model = pipelines[0].manifest.name
    versions = [_answer(pipeline, path, items, asked) for pipeline in pipelines]
    return Kind(name, path, model, options, versions, named=model == OTHER)


def _answer(pipeline: Pipeline, path: str, items: Sequence[Any], asked: _Asked) -> list[Known]:
    head = pipeline.find_head(asked.task, asked.head)
    jobs: list[Job] = prepare(head, items, head.resolve(asked.options))
    for batch in form_batches(spread(jobs)):
        pipeline.compute(batch)
    return [
        Known(_as_json(path, item), _finish(asked.wrap(_plain(head.decode(job))), job), job.tokens)
        for item, job in zip(items, jobs, strict=True)
    ]


def _as_json(path: str, item: Any) -> Any:
    """The item as its route takes it."""
    if not isinstance(item, tuple):
        return item
    names = ("first", "second") if path == NEXT else ("text", "text_pair")
    return dict(zip(names, item, strict=True))


def _finish(answer: dict[str, Any], job: Job) -> dict[str, Any]:
    return {**answer, "truncated": True} if job.encoded.truncated else answer


def _plain(answer: Any) -> Any:
    """Only what JSON has."""
    return orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


def _wrap_labels(count: int) -> Callable[[Any], dict[str, Any]]:
    return lambda labels: {"labels": Ranking(count, labels)}


def _wrap_masks(count: int) -> Callable[[Any], dict[str, Any]]:
    def wrap(masks: Any) -> dict[str, Any]:
        return {
            "masks": [mask | {"candidates": Ranking(count, mask["candidates"])} for mask in masks]
        }

    return wrap


def _wrap_vector(vector: Any) -> dict[str, Any]:
    return {"object": "embedding", "embedding": vector}


_EMBED = _Asked("embed", EmbedOptions(), _wrap_vector)
