"""What the dialects of other servers share."""

import pytest

from service.api.foreign import answer_cut


@pytest.mark.parametrize(("count", "told"), [(3, 3), (600, 600), (5000, 1000)])
def test_the_header_names_what_was_cut_or_says_that_there_is_more(count: int, told: int) -> None:
    ((name, value),) = answer_cut([], [7] * count).headers
    places = value.decode().split(",")
    whole = told == count
    assert (name, len(value) < 8000, places[-1] == "...") == (b"x-truncated", True, not whole)
    assert places[:told] == [str(place) for place in range(min(told, count))]


def test_nothing_is_said_where_nothing_was_cut() -> None:
    assert answer_cut([], [None, None]).headers == ()
