"""A checkpoint as its users have it: its files, and what they say of themselves."""
