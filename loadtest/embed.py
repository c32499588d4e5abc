"""Asks for embeddings, by OpenAI's route."""

import math
from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count


class EmbedUser(TaskUser):
    """Vectors of one length, finite, and as many as texts."""

    name = "embed"
    path = "/v1/embeddings"
    share = 4

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts."""
        return {"input": [self.mix.draw() for _ in range(count)]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Vectors of length 1, in order."""
        data = answer["data"]
        check_count(data, len(body["input"]))
        for place, item in enumerate(data):
            length = math.fsum(part * part for part in item["embedding"])
            if item["index"] != place or not math.isfinite(length) or length <= 0:
                raise WrongAnswer("a vector that is not in its place, or is none")
