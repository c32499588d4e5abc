"""What a client can send, hostile or broken, and what has to be left of the service after it."""
