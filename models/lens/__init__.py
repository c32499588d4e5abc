"""A look into the file of a graph: what is there, without its weights, and a part cut out."""
