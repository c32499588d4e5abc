"""What the dialects of other servers share."""

from typing import Any

import pytest

from service.api.foreign import answer_cut
from tests.helpers.server import Server

NAME = "tiny-pretraining"

HUB = f"/models/{NAME}/pipeline"
LONG = "river " * 80
WHOLE = {"model": NAME, "truncation": False}
MASKED = f"The [MASK] {LONG}"


@pytest.mark.parametrize(("count", "told"), [(3, 3), (600, 600), (5000, 1000)])
def test_the_header_names_what_was_cut_or_says_that_there_is_more(count: int, told: int) -> None:
    ((name, value),) = answer_cut([], [7] * count).headers
    places = value.decode().split(",")
    whole = told == count
    assert (name, len(value) < 8000, places[-1] == "...") == (b"x-truncated", True, not whole)
    assert places[:told] == [str(place) for place in range(min(told, count))]


def test_nothing_is_said_where_nothing_was_cut() -> None:
    assert answer_cut([], [None, None]).headers == ()


@pytest.mark.parametrize(
    ("path", "body", "remedy"),
    [
        (f"/tei/{NAME}/embed", {"inputs": LONG, "truncate": False}, {"truncate": True}),
        (f"{HUB}/feature-extraction", {"inputs": LONG, "truncate": False}, {"truncate": True}),
        (f"{HUB}/fill-mask", {"inputs": MASKED}, {"parameters": {"truncate": True}}),
        ("/v2/embed", {"model": NAME, "texts": [LONG], "truncate": "NONE"}, {"truncate": "END"}),
        ("/v1/rerank", {"query": "a", "documents": [LONG], **WHOLE}, {"truncation": True}),
    ],
)
def test_what_is_too_long_is_told_with_the_remedy_of_the_dialect(
    tiny: Server, path: str, body: dict[str, Any], remedy: dict[str, Any]
) -> None:
    refused = tiny.client.post(path, json=body)
    assert refused.status_code in {400, 413, 422}, refused.text
    (name,) = remedy.get("parameters", remedy)
    assert f'\\"{name}\\": ' in refused.text
    assert "overflow" not in refused.text
    assert tiny.client.post(path, json=body | remedy).status_code == 200
