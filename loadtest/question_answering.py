"""Asks for the part of a context that answers a question."""

from typing import Any

from loadtest.user import TaskUser, WrongAnswer, check_count


class QuestionAnsweringUser(TaskUser):
    """Answers, best first."""

    name = "question-answering"
    path = "/v1/question-answering"
    # The default model has no such head.
    share = 0

    def make_body(self, count: int) -> dict[str, Any]:
        """Questions of a few words, each with a context."""
        questions = [
            {
                "question": f"where is {self.rng.choice(['it', 'she', 'he'])} now?",
                "context": context,
            }
            for context in (self.mix.draw() for _ in range(count))
        ]
        return {"inputs": questions}

    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """An answer a question, which stands in its context."""
        check_count(answer["results"], len(body["inputs"]))
        for asked, result in zip(body["inputs"], answer["results"], strict=True):
            (found,) = result["answers"]
            if asked["context"][found["start"] : found["end"]] != found["answer"]:
                raise WrongAnswer("an answer that does not stand there")
