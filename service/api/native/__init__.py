"""Our own routes under /v1, a module a task."""
