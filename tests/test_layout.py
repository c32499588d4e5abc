"""One stem a task: whoever looks for fill-mask opens fill_mask in each place."""

import importlib
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from models.heads import HEADS
from models.tasks import TASKS, Task

ROOT = Path(__file__).parents[1]
PLACES = ("models/heads/{}.py", "service/api/{}/{}.py")
TESTS = ("tests/models/heads/test_{}.py", "tests/service/api/{}/test_{}.py")
# Answered by models.Pipeline alone so far; a task leaves this list with its route.
WITHOUT_ROUTE = ("token-classify", "answer")
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)


@EACH
def test_every_task_has_a_head_a_route_and_their_tests(task: Task) -> None:
    for place in (*PLACES, *TESTS):
        if "service" in place:
            name, wanted = place.format(_find_dialect(task), task.stem), not _lacks_route(task)
        else:
            name, wanted = place.format(task.stem), True
        assert (ROOT / name).is_file() == wanted, name


@EACH
def test_what_is_found_there_is_the_tasks_own(task: Task) -> None:
    assert HEADS[task.name].__module__ == f"models.heads.{task.stem}"
    if _lacks_route(task):
        return
    module = importlib.import_module(f"service.api.{_find_dialect(task)}.{task.stem}")
    (route,) = (route for route in module.router.routes if isinstance(route, APIRoute))
    assert route.path in (f"/v1/{task.name}", f"/v1/{task.name}dings")
    assert route.methods == {"POST"}


def test_no_head_and_no_row_is_left_over() -> None:
    assert HEADS.keys() == TASKS.keys()
    assert set(WITHOUT_ROUTE) <= TASKS.keys()


def _lacks_route(task: Task) -> bool:
    return task.name in WITHOUT_ROUTE


def _find_dialect(task: Task) -> str:
    """The folder of its route: embeddings are asked for as OpenAI has it."""
    return "openai" if task.name == "embed" else "native"
