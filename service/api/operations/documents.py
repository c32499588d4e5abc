"""GET /docs and /openapi.json: what there is to ask, for people and for machines."""

from fastapi import APIRouter

from service.api.route import Answer, Ask, declare, json_response
from service.endpoint import Kind
from service.pages.docs import Page, make_page

router = APIRouter(route_class=declare(Kind.DOCUMENT, page="docs"), include_in_schema=False)


@router.get("/docs")
async def docs(ask: Ask) -> Answer:
    """Show the OpenAPI document as a page."""
    pages = ask.state.pages
    if "docs" not in pages:
        pages["docs"] = make_page(ask.app.openapi())
    return _show(pages["docs"])


@router.get("/openapi.json")
async def document(ask: Ask) -> bytes:
    """Tell the OpenAPI document."""
    return json_response(ask.app.openapi())


def _show(page: Page) -> Answer:
    return Answer(page.content, b"text/html; charset=utf-8", page.headers)
