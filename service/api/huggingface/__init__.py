"""Hugging Face's inference API: a body says what its task wants, a path which task it is."""
