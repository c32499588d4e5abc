"""What sentence-transformers, and what is built on it, says of a checkpoint's answers."""
