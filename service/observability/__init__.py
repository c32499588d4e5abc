"""What is told of requests: metrics, log lines, spans."""
