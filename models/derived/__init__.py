"""What is computed from what other heads give: no weights of its own, so no bundle can lack it."""
