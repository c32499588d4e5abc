"""Asks whether one text follows another."""

from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count, check_score


class NextSentenceUser(TaskUser):
    """A yes or no that agrees with its score."""

    name = "next-sentence"
    path = "/v1/next-sentence"

    def make_body(self, count: int) -> dict[str, Any]:
        """Pairs."""
        return {
            "inputs": [{"first": self.mix.draw(), "second": self.mix.draw()} for _ in range(count)],
            "overflow": "truncate",
        }

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """is_next is score >= 0.5."""
        check_count(answer["results"], len(body["inputs"]))
        for result in answer["results"]:
            if result["is_next"] != (check_score(result["score"]) >= 0.5):
                raise WrongAnswer("is_next and score disagree")
