"""The page of /docs: it shows the whole document, and loads and runs nothing else."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from service.pages.docs import write_page
from tests.helpers.server import Server


class Page(HTMLParser):
    """What a page shows, and what it would load, run or send."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.forms: dict[tuple[str, str], str] = {}
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self.suspect: list[str] = []
        self.text = ""
        self._inside = ""
        self._form = ("", "")
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag == "form":
            self._form = str(given["data-method"]), str(given["data-path"])
            self.forms[self._form] = ""
        if tag in ("style", "script"):
            self.inline[tag].append("")
        self.suspect += [
            f"{tag} {name}"
            for name in given
            if name in ("src", "style", "action", "srcdoc") or name.startswith("on")
        ]
        if tag in ("link", "iframe", "img", "object", "base"):
            self.suspect.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.inline:
            self.inline[self._inside][-1] += data
        else:
            self.text += data
        if self._inside == "textarea":
            self.forms[self._form] += data


@pytest.fixture(scope="module")
def answer(tiny: Server) -> httpx.Response:
    return tiny.client.get("/docs")


@pytest.fixture(scope="module")
def page(answer: httpx.Response) -> Page:
    return Page(answer.text)


@pytest.fixture(scope="module")
def document(tiny: Server) -> dict[str, Any]:
    content: dict[str, Any] = tiny.client.get("/openapi.json").json()
    return content


def test_every_route_can_be_read_and_tried(page: Page, document: dict[str, Any]) -> None:
    wanted = {
        (method, path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert page.forms.keys() == wanted.keys()
    for (method, _), operation in wanted.items():
        assert operation["description"] in page.text
        for status, response in operation["responses"].items():
            assert status in page.text
            assert response["description"] in page.text
        assert bool(page.forms[method, _]) == ("requestBody" in operation)


def test_every_schema_and_field_is_there(page: Page, document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert f"schema-{name}" in page.ids
        for field, part in schema.get("properties", {}).items():
            assert field in page.text
            assert part.get("description", "") in page.text
    assert len(page.ids) == len(set(page.ids))


def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        assert link == "openapi.json" or link.removeprefix("#") in page.ids


def test_what_it_offers_to_try_is_answered(page: Page, tiny: Server) -> None:
    for (method, path), body in page.forms.items():
        filled = path.format(model=tiny.models[0].name)
        response = tiny.client.request(
            method, filled, content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 200, (path, body, response.text)
        # An example of the task, not of any.
        assert ("[MASK]" in (body or "")) == path.endswith("/fill-mask")


def test_nothing_is_loaded_and_nothing_else_runs(answer: httpx.Response, page: Page) -> None:
    assert page.suspect == []
    assert not re.findall(r"https?://", answer.text)
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": find_hash(page.inline["script"]),
        "style-src": find_hash(page.inline["style"]),
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def find_hash(texts: list[str]) -> str:
    (text,) = texts
    assert text.strip()
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_what_the_document_says_is_text() -> None:
    evil = "</textarea><script>alert(1)</script>\"'"
    page = Page(
        write_page(
            {
                "info": {"title": evil, "version": evil, "description": evil},
                "paths": {
                    f"/{evil}": {
                        "post": {
                            "description": evil,
                            "parameters": [{"name": evil, "in": evil, "description": evil}],
                            "requestBody": {
                                "content": {"application/json": {"schema": {"default": evil}}}
                            },
                            "responses": {
                                "200": {
                                    "description": evil,
                                    "content": {"a": {"schema": {"enum": [evil]}}},
                                }
                            },
                        }
                    }
                },
                "components": {
                    "schemas": {
                        evil: {
                            "description": evil,
                            "properties": {
                                evil: {"type": evil, "description": evil, "default": evil}
                            },
                        }
                    }
                },
            }
        )
    )
    assert page.inline["script"] == [""]
    assert page.text.count("alert(1)") > 10
    assert page.suspect == []
