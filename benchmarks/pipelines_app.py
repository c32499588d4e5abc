"""The baseline of the tasks over HTTP: FastAPI around the pipelines of transformers.

What a competent user writes: a pipeline for each task, loaded once with torch, called in a `def`
endpoint, which FastAPI runs in its pool of threads, the answer by orjson, uvicorn with uvloop and
httptools around it. It answers in the shapes of our own routes, so that the same requests are sent.
Runs in the environment of benchmarks/sentence_transformers_app.py, whose transformers is one that
still has a pipeline for question answering.
"""

import os
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Response
from pydantic import BaseModel
from transformers import pipeline

FOLDER_VARIABLE = "BASELINE_TASKS"
PIPELINES = {
    "fill-mask": "fill-mask",
    "classify": "text-classification",
    "token-classify": "token-classification",
    "question-answering": "question-answering",
}


class Texts(BaseModel):
    """A text, or a question with its context."""

    inputs: Any


def create_app() -> FastAPI:
    """The application, with a model for each task in the directory that the environment names."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    ask: dict[str, Any] = {
        task: pipeline(name, model=str(folder / task)) for task, name in PIPELINES.items()
    }
    app = FastAPI()

    def answer(result: dict[str, Any]) -> Response:
        content = orjson.dumps({"results": [result]}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, media_type="application/json")

    @app.get("/health/ready")
    def be_ready() -> None:
        """Answer, since the models are loaded."""

    @app.post("/v1/fill-mask")
    def fill_mask(body: Texts) -> Response:
        return answer({"masks": [{"candidates": ask["fill-mask"](body.inputs)}]})

    @app.post("/v1/classify")
    def classify(body: Texts) -> Response:
        return answer({"labels": ask["classify"](body.inputs, top_k=None)})

    @app.post("/v1/token-classify")
    def token_classify(body: Texts) -> Response:
        found = ask["token-classify"](body.inputs, aggregation_strategy="simple")
        return answer({"entities": found})

    @app.post("/v1/question-answering")
    def question_answering(body: Texts) -> Response:
        return answer({"answers": [ask["question-answering"](**body.inputs)]})

    return app
