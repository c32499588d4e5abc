"""The process and its connections: signals, bounds on HTTP, exit codes."""
