"""How alike texts are: cosines of the vectors that the embed head gives them."""

import numpy as np

from models.heads.head import Floats


def compare(source: Floats, targets: Floats) -> Floats:
    """The cosines [targets] of one vector [d] of length 1 with others [targets, d]."""
    cosines: Floats = np.clip(targets @ source, -1.0, 1.0)
    return cosines


def compare_all(vectors: Floats) -> Floats:
    """The cosines [n, n] of vectors [n, d] of length 1, each with each."""
    cosines: Floats = np.clip(vectors @ vectors.T, -1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    return cosines
