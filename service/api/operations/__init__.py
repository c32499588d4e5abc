"""What operates the service: health, metrics, and the set of models."""
