"""The baseline over HTTP: FastAPI around sentence-transformers' ONNX backend.

What a competent user writes: the model loaded once, `encode` in a `def` endpoint, which FastAPI
runs in its pool of threads, the answer by orjson, uvicorn with uvloop and httptools around it. Runs
in an environment of its own, with `python -m uvicorn --factory`, from the root of the repository:

    python -m venv .venv-baseline
    .venv-baseline/bin/pip install -r benchmarks/requirements-baseline.txt

`python -m benchmarks.sentence_transformers_app CHECKPOINT OUT` has optimum export the model, as
sentence-transformers does by itself where there is no ONNX file. OUT then holds one,
onnx/model.onnx, in fp32: the file the backend loads when it is not told another. Its session has
ONNX Runtime's default options: all graph optimisations, a thread a core, spinning.
"""

import os
import sys

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

MODEL_VARIABLE = "BASELINE_MODEL"


class EmbeddingsRequest(BaseModel):
    """What of OpenAI's request the benchmark uses."""

    input: str | list[str]


def create_app() -> FastAPI:
    """The application, with the model whose directory the environment names."""
    model = SentenceTransformer(os.environ[MODEL_VARIABLE], backend="onnx")
    app = FastAPI()

    @app.get("/health/ready")
    def be_ready() -> None:
        """Answer, since the model is loaded."""

    @app.post("/v1/embeddings")
    def embed(body: EmbeddingsRequest) -> Response:
        """One vector a text."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        vectors = model.encode(texts, show_progress_bar=False)
        content = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "model": "all-MiniLM-L6-v2",
            # Counting would mean to tokenise twice: left out, to the baseline's advantage.
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
        }
        return Response(
            orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
        )

    return app


def export_model(checkpoint: str, out: str) -> None:
    """Export with optimum, and save what the backend then loads."""
    SentenceTransformer(checkpoint, backend="onnx").save_pretrained(out)


if __name__ == "__main__":
    export_model(*sys.argv[1:])
