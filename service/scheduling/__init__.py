"""Which texts are computed next, and the thread that computes them."""
