"""Masked language modelling and next-sentence prediction, from tokens to a trained trunk."""
