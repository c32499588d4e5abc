"""text-embeddings-inference's routes, at the root and for each model below /tei/{model}."""
