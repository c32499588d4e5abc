"""A second look at a graph: what is in its file, read without its weights, and a part of it cut out."""
