"""Cohere's and Jina's routes: reranking, which others ask for by the same paths, and embed."""
