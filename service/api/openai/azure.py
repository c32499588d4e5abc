"""OpenAI's embeddings where Azure's clients ask for them: by the deployment's name in the path.

The API's version, which they send, is not looked at; their header `api-key` is the key.
"""

from fastapi import APIRouter

from service.api.openai.dialect import OPENAI
from service.api.openai.embed import EmbeddingsRequest, embed
from service.api.route import Ask, declare
from service.endpoint import Kind

router = APIRouter(route_class=declare(Kind.WORK, OPENAI), include_in_schema=False)


@router.post("/openai/deployments/{deployment:path}/embeddings", response_model=None)
async def embed_deployment(body: EmbeddingsRequest, ask: Ask) -> bytes:
    """Embed by the model that the path names, whatever name is sent besides."""
    return await embed(body.model_copy(update={"model": ask.path["deployment"]}), ask)
