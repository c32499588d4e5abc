"""Asks which word is hidden."""

from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count, check_score


class FillMaskUser(TaskUser):
    """Candidates for one mask a text, best first."""

    name = "fill-mask"
    path = "/v1/fill-mask"

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts with a word hidden."""
        return {"inputs": [self.mix.draw_masked() for _ in range(count)]}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Five candidates a mask, falling scores."""
        check_count(answer["results"], len(body["inputs"]))
        for result in answer["results"]:
            check_count(result["masks"], 1)
            scores = [check_score(each["score"]) for each in result["masks"][0]["candidates"]]
            if len(scores) != 5 or scores != sorted(scores, reverse=True):
                raise WrongAnswer("candidates that are not five, or not best first")
