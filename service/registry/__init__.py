"""Which models answer: loading, exchanging and watching them."""
