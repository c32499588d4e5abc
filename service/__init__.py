"""Many requests at once over HTTP: many texts, one trunk, no padding."""
