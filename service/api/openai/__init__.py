"""OpenAI's routes: embeddings, and the list of models."""
