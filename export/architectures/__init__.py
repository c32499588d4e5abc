"""The classes that compute a checkpoint: transformers' own, and ours where it has none."""
