"""The format of a bundle: its manifest, and opening one with every hash checked."""
