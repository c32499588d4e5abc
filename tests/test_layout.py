"""One stem a task: whoever looks for fill-mask opens fill_mask in each place of CONTRIBUTING.md."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from export.proof.cases import CASES
from export.reading.heads import list_carried
from models import Pipeline
from models.heads import HEADS
from models.tasks import TASKS, Task
from service.api import ROUTERS
from tests.soak.tasks import TASKS as SOAKED

ROOT = Path(__file__).parents[1]
# Answered by models.Pipeline alone so far; a task leaves this list with its route.
WITHOUT_ROUTE: tuple[str, ...] = ()
# Where the HTTP side has another word than the bundles.
ROUTE_STEMS = {"answer": "question_answering"}
METHODS = {"answer": "answer_questions"}
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)


def _lacks_route(task: Task) -> bool:
    return task.name in WITHOUT_ROUTE


def _find_stem(task: Task) -> str:
    return ROUTE_STEMS.get(task.name, task.stem)


def _find_dialect(task: Task) -> str:
    """The folder of its route: embeddings are asked for as OpenAI has it."""
    return "openai" if task.name == "embed" else "native"


def _import_route(task: Task) -> Any:
    return importlib.import_module(f"service.api.{_find_dialect(task)}.{_find_stem(task)}")


def _is_loaded(task: Task) -> bool:
    """Read, not imported: locust changes the process that imports it."""
    text = (ROOT / "loadtest/locustfile.py").read_text()
    found = re.search(rf"^from loadtest\.{_find_stem(task)} import (\w+)$", text, re.MULTILINE)
    (users,) = re.findall(r"^USERS = \(([^)]*)\)$", text, re.MULTILINE)
    return found is not None and found[1] in re.findall(r"\w+", users)


# The places where a task has a file of its own, and those where it is one of a list.
FILES = (
    "models/heads/<stem>.py",
    "tests/models/heads/test_<stem>.py",
    "service/api/<dialect>/<stem>.py",
    "loadtest/<stem>.py",
    "tests/soak/tasks/<stem>.py",
    "tests/service/api/<dialect>/test_<stem>.py",
)
LISTS: dict[str, Callable[[Task], bool]] = {
    "models/tasks.py": lambda task: TASKS[task.name] is task,
    "models/heads/__init__.py": lambda task: HEADS[task.name].task is task,
    "models/asking.py": lambda task: hasattr(Pipeline, METHODS.get(task.name, task.stem)),
    "export/reading/heads.py": lambda task: (task.name in list_carried()) == task.weights,
    "export/proof/cases.py": lambda task: CASES[task.name].task == task.name,
    "service/api/__init__.py": lambda task: _import_route(task).router in ROUTERS,
    "loadtest/locustfile.py": _is_loaded,
    "tests/soak/tasks/__init__.py": lambda task: (
        importlib.import_module(f"tests.soak.tasks.{_find_stem(task)}") in SOAKED
    ),
}
# Those of the service and of what asks it.
OF_ROUTES = ("service/", "loadtest/", "tests/soak/", "tests/service/")


def test_the_places_are_those_that_contributing_names() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Add a task\n")[1].split("\n## ")[0]
    steps = "\n".join(re.findall(r"^\d\..*(?:\n +.*)*", section, re.MULTILINE))
    named = re.findall(r"`([\w/<>]+\.py)`", steps)
    assert len(named) == len(set(named))
    assert set(named) == {*FILES, *LISTS}


@EACH
@pytest.mark.parametrize("place", FILES)
def test_every_task_has_a_file_of_its_own(task: Task, place: str) -> None:
    if place.startswith(OF_ROUTES):
        name = place.replace("<dialect>", _find_dialect(task))
        name, wanted = name.replace("<stem>", _find_stem(task)), not _lacks_route(task)
    else:
        name, wanted = place.replace("<stem>", task.stem), True
    assert (ROOT / name).is_file() == wanted, name


@EACH
@pytest.mark.parametrize("place", LISTS)
def test_every_task_is_in_each_list(task: Task, place: str) -> None:
    if not (place.startswith(OF_ROUTES) and _lacks_route(task)):
        assert LISTS[place](task), place


@EACH
def test_what_is_found_there_is_the_tasks_own(task: Task) -> None:
    assert HEADS[task.name].__module__ == f"models.heads.{task.stem}"
    if _lacks_route(task):
        return
    (route,) = (each for each in _import_route(task).router.routes if isinstance(each, APIRoute))
    word = _find_stem(task).replace("_", "-")
    assert route.path in (f"/v1/{word}", f"/v1/{word}dings")
    assert route.methods == {"POST"}
    soaked = importlib.import_module(f"tests.soak.tasks.{_find_stem(task)}")
    assert route.path == soaked.PATH
    loads = (ROOT / f"loadtest/{_find_stem(task)}.py").read_text()
    assert f'path = "{route.path}"' in loads


def test_no_head_and_no_row_is_left_over() -> None:
    assert HEADS.keys() == CASES.keys() == TASKS.keys()
    assert list_carried() <= TASKS.keys()
    assert set(WITHOUT_ROUTE) <= TASKS.keys()
    assert len(SOAKED) == len(TASKS) - len(WITHOUT_ROUTE)
