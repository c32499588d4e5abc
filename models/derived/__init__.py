"""What is made of other heads, or is looked up in the graph: no weights, so no bundle lacks it."""
