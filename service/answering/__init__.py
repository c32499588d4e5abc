"""From the items of a request to their answers."""
