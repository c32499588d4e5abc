"""Whether callers in Python gave lists and pairs, since a string is a sequence of strings, too."""

from collections.abc import Sequence

from models.errors import InvalidValue


def check_list(given: Sequence[object], what: str = "text", *, param: str | None = None) -> None:
    """Raise InvalidValue for one string in place of a list of them."""
    if isinstance(given, str):
        raise InvalidValue(
            f"one {what} is no list of {what}s: it would be read letter by letter; give [{what}]",
            param=param,
        )


def read_pair(item: Sequence[str]) -> tuple[str, str]:
    """Both texts of a pair. Raises InvalidValue for what is none."""
    if isinstance(item, str) or len(item) != 2:
        raise InvalidValue("a pair of texts is due here; give [(one, other)]")
    return item[0], item[1]
