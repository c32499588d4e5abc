"""Asks for what is made of other heads: ranking, similarity, how likely a text is, attention."""

import math
from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count


class RerankUser(TaskUser):
    """Documents by a query, as a search asks."""

    name = "rerank"
    path = "/v1/rerank"
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """A query of a few words, and documents."""
        query = " ".join(self.mix.draw().split()[:4])
        return {"query": query, "documents": [self.mix.draw() for _ in range(max(count, 4))]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Each document once, best first."""
        check_count(answer["results"], len(body["documents"]))
        scores = [result["relevance_score"] for result in answer["results"]]
        places = {result["index"] for result in answer["results"]}
        if scores != sorted(scores, reverse=True) or places != set(range(len(scores))):
            raise WrongAnswer("not best first, or not each document once")


class SimilarityUser(TaskUser):
    """How alike texts are to one."""

    name = "similarity"
    path = "/v1/similarity"
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """A source, and what it is compared with: itself the last."""
        source = self.mix.draw()
        return {"source": source, "targets": [*(self.mix.draw() for _ in range(count)), source]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Cosines, of a text with itself 1."""
        (result,) = answer["results"]
        check_count(result["scores"], len(body["targets"]))
        if abs(result["scores"][-1] - 1) > 1e-3:
            raise WrongAnswer("a text that is not like itself")


class ScoreUser(TaskUser):
    """How likely texts are: each token hidden once, so dear."""

    name = "score"
    path = "/v1/score"
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts of a few words."""
        return {"inputs": [" ".join(self.mix.draw().split()[:12]) for _ in range(count)]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """The sum of what its tokens have."""
        check_count(answer["results"], len(body["inputs"]))
        for result in answer["results"]:
            total = math.fsum(token["score"] for token in result["tokens"])
            if not math.isclose(total, result["score"], rel_tol=1e-3, abs_tol=1e-3):
                raise WrongAnswer("a score that is not the sum of its tokens'")


class AttentionUser(TaskUser):
    """What the tokens of texts look at."""

    name = "attention"
    path = "/v1/attention"
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts of a few words, and one head."""
        texts = [" ".join(self.mix.draw().split()[:24]) for _ in range(count)]
        return {"inputs": texts, "layer": 0, "head": 0}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Rows that sum to 1, one for each token."""
        check_count(answer["results"], len(body["inputs"]))
        for result in answer["results"]:
            (rows,) = result["attention"]
            sums = [math.fsum(row) for row in rows]
            if len(rows) != len(result["tokens"]) or any(abs(each - 1) > 1e-3 for each in sums):
                raise WrongAnswer("rows that do not sum to 1, or not one for each token")
