"""The order of an export's steps, and a bundle that appears whole or not at all."""
