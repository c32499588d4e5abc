"""Asks for the label of a text."""

from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count


class ClassifyUser(TaskUser):
    """Labels, best first."""

    name = "classify"
    path = "/v1/classify"

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts."""
        return {"inputs": [self.mix.draw() for _ in range(count)]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """At least one label a text, falling scores."""
        check_count(answer["results"], len(body["inputs"]))
        for result in answer["results"]:
            scores = [label["score"] for label in result["labels"]]
            if not scores or scores != sorted(scores, reverse=True):
                raise WrongAnswer("no labels, or not best first")
