"""The OpenAPI document as a page, from this server alone.

The page is plain HTML; a small script sends requests from it. Nothing is loaded from elsewhere,
and the page's policy lets nothing run but that script.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

_PAGES = Path(__file__).parent
_TEXT = "The capital of France is [MASK]."
_MAX_DEPTH = 8

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and the headers with the policy that lets nothing run but its own script."""

    content: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def make_page(document: Mapping[str, Any]) -> Page:
    """The page of an OpenAPI document."""
    style, script = (
        (_PAGES / name).read_text(encoding="utf-8") for name in ("docs.css", "docs.js")
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    content = write_page(document, style, script).encode()
    return Page(content, ((b"content-security-policy", policy.encode()),))


def write_page(document: Mapping[str, Any], style: str = "", script: str = "") -> str:
    """An OpenAPI document as HTML: every route, what it takes and answers, every schema."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            # Their hashes stand in the policy: not a character may be added.
            f"<style>{style}</style></head><body>",
            f"<h1>{title}</h1>",
            f"<p>{escape(info.get('description', ''))}</p>",
            '<p>For machines: <a href="openapi.json">/openapi.json</a>.</p>',
            '<label>API key, where one is asked for: <input id="key" type="password" '
            'autocomplete="off"></label>',
            *_write_operations(document),
            "<h2>Schemas</h2>",
            *_write_schemas(document),
            f"<script>{script}</script></body></html>",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _write_operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f'<section id="{escape(method)}-{escape(path.strip("/").replace("/", "-"))}">'
            yield f'<h2><span class="method">{escape(method)}</span> <code>{escape(path)}</code>'
            yield f"</h2><p>{escape(operation.get('description', ''))}</p>"
            yield from _write_form(document, path, method, operation)
            yield "<details><summary>Answers</summary><table>"
            for status, response in operation["responses"].items():
                kinds = " or ".join(_name_type(schema) for schema in _schemas_of(response))
                yield f"<tr><td>{escape(status)}</td><td>{escape(response['description'])}</td>"
                yield f"<td>{kinds}</td></tr>"
            yield "</table></details></section>"


def _write_form(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> Iterator[str]:
    yield f'<form data-method="{escape(method)}" data-path="{escape(path)}">'
    for parameter in operation.get("parameters", ()):
        name, place = escape(parameter["name"]), escape(parameter["in"])
        required = " required" if parameter.get("required") else ""
        yield f"<label>{name}: {escape(parameter.get('description', ''))} "
        yield f'<input name="{name}" data-in="{place}"{required}></label>'
    for schema in _schemas_of(operation.get("requestBody", {})):
        example = json.dumps(_make_example(document, schema), indent=2, ensure_ascii=False)
        yield f"<p>Takes {_name_type(schema)}:</p>"
        yield f'<textarea rows="{example.count(chr(10)) + 2}" spellcheck="false" '
        yield f'aria-label="body">{escape(example)}</textarea>'
    yield "<button>Try it</button><pre><output></output></pre></form>"


def _write_schemas(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        yield f'<section id="schema-{escape(name)}"><h3><code>{escape(name)}</code></h3>'
        yield f"<p>{escape(schema.get('description', ''))}</p><table>"
        for field, part in schema.get("properties", {}).items():
            needed = "required" if field in schema.get("required", ()) else ""
            yield f"<tr><td><code>{escape(field)}</code></td><td>{_name_type(part)}</td>"
            yield f"<td>{escape(needed)}</td><td>{escape(part.get('description', ''))}</td></tr>"
        yield "</table></section>"


def _schemas_of(part: Mapping[str, Any]) -> Iterator[Schema]:
    """The schemas of a body or an answer, one a media type."""
    for content in part.get("content", {}).values():
        if "schema" in content:
            yield content["schema"]


def _name_type(schema: Schema) -> str:
    """What a schema takes, in a few words of HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_name_type(one) for one in schema[choice]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_name_type(schema.get('items', {}))}"
    if kind == "object" and "properties" in schema:
        fields = (
            f"<code>{escape(name)}</code>: {_name_type(part)}"
            for name, part in schema["properties"].items()
        )
        return f"{{{', '.join(fields)}}}"
    return escape(str(kind))


def _make_example(document: Mapping[str, Any], schema: Schema, depth: int = 0) -> Any:
    """The smallest value that a schema takes."""
    if "$ref" in schema:
        *_, name = schema["$ref"].split("/")
        schema = document["components"]["schemas"][name]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            schema = schema[choice][0]
            return _make_example(document, schema, depth + 1)
    given = [
        *schema.get("examples", ()),
        *((schema["const"],) if "const" in schema else ()),
        *schema.get("enum", ()),
    ]
    if given:
        return given[0]
    kind = schema.get("type")
    if kind == "object" and depth < _MAX_DEPTH:
        return {
            name: _make_example(document, part, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in schema.get("required", ())
        }
    if kind == "array" and depth < _MAX_DEPTH:
        return [_make_example(document, schema.get("items", {}), depth + 1)]
    return {"string": _TEXT, "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))
