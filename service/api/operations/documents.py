"""GET /docs and /openapi.json: what there is to ask, for people and for machines."""

from fastapi import APIRouter

from service.api.route import Answer, Ask, declare, json_response
from service.endpoint import Kind
from service.pages.docs import make_page

router = APIRouter(route_class=declare(Kind.DOCUMENT, page="docs"), include_in_schema=False)


@router.get("/docs")
async def docs(ask: Ask) -> Answer:
    """Show the OpenAPI document as a page."""
    app = ask.app
    if app.state.docs is None:
        # Written when it is first asked for.
        app.state.docs = make_page(app.openapi())
    page = app.state.docs
    return Answer(page.content, b"text/html; charset=utf-8", page.headers)


@router.get("/openapi.json")
async def document(ask: Ask) -> bytes:
    """Tell the OpenAPI document."""
    return json_response(ask.app.openapi())
