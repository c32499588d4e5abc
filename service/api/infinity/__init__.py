"""Infinity's and vLLM's paths, which are OpenAI's and Cohere's without the version."""
