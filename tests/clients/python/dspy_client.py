"""DSPy's Embedder, which asks by litellm."""

# DSPy loads it late, by a stand-in that litellm's own import of it runs into.
import openai  # noqa: F401  isort: skip

import dspy
from known import KEY, MODEL, TEXTS, URL, check, embed

embedder = dspy.Embedder(f"openai/{MODEL}", api_base=f"{URL}/v1", api_key=KEY, caching=False)
check(embedder(TEXTS).tolist(), embed(TEXTS))
