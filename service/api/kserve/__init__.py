"""KServe's inference protocol, version 2: health, models, and vectors of texts."""
