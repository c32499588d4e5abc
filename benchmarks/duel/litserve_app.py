"""LitServe around sentence-transformers' ONNX backend, with batches as its documentation shows.

python -m benchmarks.duel.litserve_app MODEL PORT
"""

import sys
from typing import Any

import litserve
from sentence_transformers import SentenceTransformer


class Embedding(litserve.LitAPI):  # type: ignore[misc, unused-ignore] # its types are not there
    """One vector a text; requests that wait together are one batch."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        self.model = SentenceTransformer(sys.argv[1], backend="onnx", device="cpu")

    def decode_request(self, request: dict[str, Any]) -> list[str]:
        """The texts of a request."""
        given = request["input"]
        return [given] if isinstance(given, str) else given

    def predict(self, requests: list[list[str]]) -> list[Any]:
        """The vectors of all the texts that wait, by request."""
        texts = [text for request in requests for text in request]
        vectors = self.model.encode(texts, show_progress_bar=False)
        found, place = [], 0
        for request in requests:
            found.append(vectors[place : place + len(request)])
            place += len(request)
        return found

    def encode_response(self, output: Any) -> dict[str, Any]:
        """In OpenAI's shape."""
        return {"data": [{"index": at, "embedding": row.tolist()} for at, row in enumerate(output)]}


if __name__ == "__main__":
    api = Embedding(max_batch_size=16, batch_timeout=0.002, api_path="/v1/embeddings")
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
