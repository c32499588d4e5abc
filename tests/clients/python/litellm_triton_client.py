"""litellm as it asks Triton, by KServe's protocol and without a key."""

import litellm
from known import MODEL, TEXTS, URL, check, embed

litellm.suppress_debug_info = True
base = f"{URL}/v2/models/{MODEL}/infer"
answer = litellm.embedding(model=f"triton/{MODEL}", input=TEXTS, api_base=base)
check([entry["embedding"] for entry in answer.data], embed(TEXTS))
