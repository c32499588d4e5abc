"""Many requests at once over HTTP: many texts, one trunk, no padding."""

import os

# Said before numpy is imported: it would start a thread a core for products that nobody asks of it
# here, since the trunk has threads of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A text is tokenised by the thread that asks for it: a pool would have a thread a core more.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
