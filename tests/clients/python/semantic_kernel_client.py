"""Semantic Kernel: OpenAI's embeddings by a client of one's own."""

import asyncio

from known import KEY, MODEL, TEXTS, URL, check, embed
from openai import AsyncOpenAI
from semantic_kernel.connectors.ai.open_ai import OpenAITextEmbedding

client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY)
service = OpenAITextEmbedding(ai_model_id=MODEL, async_client=client)
check(asyncio.run(service.generate_embeddings(TEXTS)).tolist(), embed(TEXTS))
