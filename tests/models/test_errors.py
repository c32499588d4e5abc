"""The tree of errors is the one that the module's docstring draws."""

import re

import pytest

from export import errors as export_errors
from models import errors
from models.errors import CallerError, ClozeError, InvalidTarget, OperatorError


def list_tree(root: type[ClozeError], module: str) -> list[tuple[int, str]]:
    """Depth and name of each error below `root` in that module, depth first."""
    found = []
    for kind in root.__subclasses__():
        if kind.__module__ == module:
            found.append((0, kind.__name__))
            found += [(depth + 1, name) for depth, name in list_tree(kind, module)]
    return found


@pytest.mark.parametrize(
    ("module", "root"),
    [(errors, ClozeError), (export_errors, export_errors.ExportError)],
)
def test_the_docstring_draws_the_tree(module: object, root: type[ClozeError]) -> None:
    lines = re.findall(r"^ {4}([│ ]*)[├└]── (\w+)", module.__doc__ or "", re.MULTILINE)
    drawn = [(len(indent) // 4, name) for indent, name in lines]
    assert drawn
    assert drawn == list_tree(root, root.__module__)


def test_codes_are_stable_words_of_their_own() -> None:
    kinds = [ClozeError, *_walk(ClozeError)]
    codes = [kind.code for kind in kinds if kind.__module__ in (errors.__name__, "export.errors")]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_exit_codes_are_those_of_the_docstring() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) .*exit code (\d)", export_errors.__doc__ or ""))
    found = {
        kind.__name__: str(kind.exit_code) for kind in export_errors.ExportError.__subclasses__()
    }
    assert drawn == found
    assert len(set(found.values())) == len(found) == 4


def test_at_names_the_field_and_the_item() -> None:
    assert CallerError("no").at("inputs", 3).param == "inputs[3]"
    assert CallerError("no").at("model").param == "model"
    nested = CallerError("no", param="text_pair").at("inputs", 0)
    assert nested.param == "inputs[0].text_pair"
    assert str(nested) == "inputs[0].text_pair: no"
    assert str(OperatorError("no")) == nested.message == "no"
    error = InvalidTarget("no")
    assert error.at("targets", 1) is error


def _walk(kind: type[ClozeError]) -> list[type[ClozeError]]:
    below = kind.__subclasses__()
    return [*below, *(deeper for each in below for deeper in _walk(each))]
