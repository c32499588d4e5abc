"""OpenAI's embeddings below the base of a model, where text-embeddings-inference has them, too.

Errors have OpenAI's shape there, which its clients read; at the root the route is Infinity's.
"""

from fastapi import APIRouter

from service.api.foreign import choose_overflow
from service.api.infinity.dialect import INFINITY
from service.api.infinity.routes import UnversionedRequest, embed_unversioned
from service.api.route import Ask, declare
from service.api.tei.routes import find_model
from service.endpoint import Kind

router = APIRouter(route_class=declare(Kind.WORK, INFINITY), include_in_schema=False)


@router.post("/tei/{model:path}/embeddings", response_model=None)
@router.post("/tei/{model:path}/v1/embeddings", response_model=None)
async def embed(body: UnversionedRequest, ask: Ask) -> bytes:
    """Embed by the model whose base it is, whatever name is sent, and cut as the others there."""
    overflow = body.overflow or choose_overflow(ask, truncate=None)
    meant = {"model": find_model(ask), "overflow": overflow}
    return await embed_unversioned(body.model_copy(update=meant), ask)
