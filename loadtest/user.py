"""One who asks for one task, again and again, and looks at the answers."""

import random
from abc import abstractmethod
from typing import Any, ClassVar

from locust import FastHttpUser, task

from loadtest.texts import Mix


class WrongAnswer(Exception):
    """An answer with status 200 that is not one; says what is wrong with it."""


class TaskUser(FastHttpUser):
    """Asks one route, checks what it says, and thinks as long as the options say."""

    abstract = True
    name: ClassVar[str]
    path: ClassVar[str]
    # How many of the users ask for it, where the command line does not say.
    share: ClassVar[int] = 1
    network_timeout = 120.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Draws texts of its own: the same for the same seed and the same number of users."""
        options = self.environment.parsed_options
        number = TaskUser._count(self.environment)
        self.rng = random.Random(f"{options.seed}-{self.name}-{number}")
        self.mix = Mix(options.mix, self.rng)
        self.batch = options.batch
        self.extra = {"model": options.model} if options.model else {}
        self.headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}

    @staticmethod
    def _count(environment: Any) -> int:
        environment.cloze_users = getattr(environment, "cloze_users", 0) + 1
        return int(environment.cloze_users)

    def wait_time(self) -> float:
        """Seconds before the next request."""
        return float(self.environment.parsed_options.think)

    @abstractmethod
    def make_body(self, count: int) -> dict[str, Any]:
        """A request of so many items."""

    @abstractmethod
    def check(self, answer: Any, body: dict[str, Any]) -> None:
        """Raises WrongAnswer where the answer is not one to that request."""

    @task
    def ask(self) -> None:
        """One request."""
        body = {**self.make_body(self.batch), **self.extra}
        with self.client.post(
            self.path, json=body, headers=self.headers, name=self.name, catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(describe_failure(response.status_code, response.text))
                return
            try:
                self.check(response.json(), body)
            except WrongAnswer as wrong:
                response.failure(f"wrong answer: {wrong}")
            except (ValueError, KeyError, TypeError, IndexError) as form:
                response.failure(f"wrong answer: not of the route's form ({form!r})")


def describe_failure(status: int, text: str | None) -> str:
    """Status and, where the body is an error of ours, its code: few kinds, to be counted."""
    if not status:
        return "no answer"
    start = (text or "").find('"code":"')
    if start >= 0:
        code = (text or "")[start + 8 :].split('"', 1)[0]
        return f"{status} {code}"
    return str(status)


def check_count(results: Any, wanted: int) -> None:
    """Raises WrongAnswer unless there are as many results as items."""
    if not isinstance(results, list) or len(results) != wanted:
        found = len(results) if isinstance(results, list) else type(results).__name__
        raise WrongAnswer(f"{found} results for {wanted} items")


def check_score(score: Any) -> float:
    """A probability, or WrongAnswer."""
    if not isinstance(score, int | float) or not 0 <= score <= 1:
        raise WrongAnswer(f"a score of {score!r}")
    return float(score)
