"""docs/api.md tells what the service answers."""

from pathlib import Path

from service.settings import DEFAULT_BUNDLE
from tests.api_page import PAGE, SECTIONS, render
from tests.helpers.server import serve


def test_the_page_is_what_is_answered(reader_bundle: Path, inference_bundle: Path) -> None:
    with serve(DEFAULT_BUNDLE, reader_bundle, inference_bundle) as server:
        assert render(server.client) == PAGE.read_text(encoding="utf-8"), (
            "docs/api.md is out of date; make it anew with python -m tests.api_page"
        )
        document = server.client.get("/openapi.json").json()
    shown = {example.path for _, examples in SECTIONS for example in examples}
    tasks = {path for path, operations in document["paths"].items() if "post" in operations}
    assert tasks <= shown
