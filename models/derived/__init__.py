"""What is made of other heads, or looked up in the graph: no weights of its own, no bundle lacks it."""
