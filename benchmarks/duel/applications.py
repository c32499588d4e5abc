"""What a competent user writes around an engine that brings no server: FastAPI, one route.

Runs in the rival's own environment, `python -m uvicorn --factory`, from the root of the repository.
`DUEL_MODEL` is where the model lies, `DUEL_ENGINE` names the engine. Nothing here is of Cloze.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel

Embed = Callable[[Sequence[str]], Any]
_MOST_TOKENS = 256
# So many requests are computed together; more at once are hardly faster on a processor.
_MOST_TEXTS = 64


class EmbeddingsRequest(BaseModel):
    """What of OpenAI's request the benchmark uses."""

    input: str | list[str]


def create_app() -> FastAPI:
    """The application, with the engine and the model that the environment names."""
    embed = _ENGINES[os.environ["DUEL_ENGINE"]](Path(os.environ["DUEL_MODEL"]))
    app = FastAPI()

    @app.get("/health/ready")
    def be_ready() -> None:
        """Answer, since the model is loaded."""

    @app.post("/v1/embeddings")
    def answer(body: EmbeddingsRequest) -> Response:
        """One vector a text."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(embed(texts))
        ]
        content = {"object": "list", "data": data, "model": "all-MiniLM-L6-v2"}
        told = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(told, media_type="application/json")

    return app


def open_sentence_transformers(model: Path, backend: Any = "torch") -> Embed:
    """sentence-transformers as it is by default, on torch."""
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(model), backend=backend, device="cpu")
    return lambda texts: found.encode(list(texts), show_progress_bar=False)


def open_sentence_transformers_onnx(model: Path) -> Embed:
    """sentence-transformers on ONNX Runtime."""
    return open_sentence_transformers(model, "onnx")


def open_fastembed(model: Path) -> Embed:
    """Fastembed with a model of one's own, from a folder."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="duel/all-MiniLM-L6-v2",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="duel/all-MiniLM-L6-v2"),
        dim=384,
        model_file="onnx/model.onnx",
    )
    found = TextEmbedding("duel/all-MiniLM-L6-v2", specific_model_path=str(model))
    # It takes the tokenizer's 128 tokens for the model's length, which is 256, and tells nobody.
    found.model.tokenizer.enable_truncation(_MOST_TOKENS)
    return lambda texts: list(found.embed(list(texts)))


def open_ctranslate2(model: Path) -> Embed:
    """CTranslate2's encoder on gathered requests, pooled as the model says, with NumPy."""
    import ctranslate2
    from tokenizers import Tokenizer

    encoder = ctranslate2.Encoder(str(model), device="cpu", intra_threads=os.cpu_count() or 1)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(_MOST_TOKENS)
    tokenizer.no_padding()

    def embed(texts: Sequence[str]) -> Any:
        ids = [each.ids for each in tokenizer.encode_batch(list(texts))]
        hidden = np.asarray(encoder.forward_batch(ids).last_hidden_state)
        lengths = np.array([len(each) for each in ids])
        mask = np.arange(hidden.shape[1])[None, :] < lengths[:, None]
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / lengths[:, None]
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    return gather(embed)


def gather(embed: Embed) -> Embed:
    """Requests that wait at the same time as one batch, computed by a thread of its own."""
    waiting: SimpleQueue[tuple[Sequence[str], Future[Any]]] = SimpleQueue()

    def work() -> None:
        while True:
            taken = [waiting.get()]
            while sum(len(texts) for texts, _ in taken) < _MOST_TEXTS:
                try:
                    taken.append(waiting.get_nowait())
                except Empty:
                    break
            try:
                vectors = embed([text for texts, _ in taken for text in texts])
            except Exception as error:
                for _, future in taken:
                    future.set_exception(error)
                continue
            start = 0
            for texts, future in taken:
                future.set_result(vectors[start : start + len(texts)])
                start += len(texts)

    Thread(target=work, daemon=True).start()

    def ask(texts: Sequence[str]) -> Any:
        future: Future[Any] = Future()
        waiting.put((texts, future))
        return future.result()

    return ask


_ENGINES: dict[str, Callable[[Path], Embed]] = {
    "sentence-transformers": open_sentence_transformers,
    "sentence-transformers-onnx": open_sentence_transformers_onnx,
    "fastembed": open_fastembed,
    "ctranslate2": open_ctranslate2,
}
