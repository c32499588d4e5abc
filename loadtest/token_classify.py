"""Asks for what stands where in a text."""

from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count, check_score


class TokenClassifyUser(TaskUser):
    """Entities, in order."""

    name = "token-classify"
    path = "/v1/token-classify"
    # The default model has no such head.
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """Texts."""
        return {"inputs": [self.mix.draw() for _ in range(count)], "overflow": "truncate"}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """A list a text, each word the text's own."""
        check_count(answer["results"], len(body["inputs"]))
        for text, result in zip(body["inputs"], answer["results"], strict=True):
            for entity in result["entities"]:
                check_score(entity["score"])
                if text[entity["start"] : entity["end"]] != entity["word"]:
                    raise WrongAnswer("a word that does not stand there")
