"""openapi-python-client: what it makes of our document is called, and its errors are typed."""

import subprocess
import sys
import tempfile
from pathlib import Path

from known import KEY, MODEL, TEXTS, URL, ask, check, embed

folder = tempfile.TemporaryDirectory()
made = Path(folder.name) / "client"
generator = [sys.executable, "-m", "openapi_python_client", "generate"]
subprocess.run(
    [*generator, "--url", f"{URL}/openapi.json", "--output-path", str(made), "--meta", "none"],
    check=True,
    capture_output=True,
)
sys.path.insert(0, folder.name)

from client import AuthenticatedClient  # noqa: E402
from client import models as m  # noqa: E402
from client.api.models import list_models  # noqa: E402
from client.api.tasks import (  # noqa: E402
    classify,
    fill_mask,
    rerank,
    score,
    similarity,
    tokenize,
)
from client.api.tasks import embed as embedding  # noqa: E402

client = AuthenticatedClient(base_url=URL, token=KEY)
vectors = embedding.sync(client=client, body=m.EmbeddingsRequest(input_=TEXTS))
check([entry.embedding for entry in vectors.data], embed(TEXTS))
masked = "She opened the [MASK] and went in."
masks = fill_mask.sync(client=client, body=m.FillMaskRequest(inputs=masked)).to_dict()
check(masks, ask("/v1/fill-mask", {"inputs": masked}))
for route, body, path in (
    (classify, m.ClassifyRequest(inputs=TEXTS), "/v1/classify"),
    (score, m.ScoreRequest(inputs=TEXTS[0]), "/v1/score"),
    (tokenize, m.TokenizeRequest(inputs=TEXTS), "/v1/tokenize"),
    (similarity, m.SimilarityRequest(inputs=TEXTS), "/v1/similarity"),
):
    answer = route.sync(client=client, body=body).to_dict()
    check(answer, ask(path, {"inputs": body.inputs}))
ranked = rerank.sync(client=client, body=m.RerankRequest(query="cats", documents=TEXTS))
assert {each.index for each in ranked.results} == {0, 1}
assert list_models.sync(client=client).data[0].id == MODEL
refused = embedding.sync(client=client, body=m.EmbeddingsRequest(input_=""))
assert isinstance(refused, m.ErrorBody)
assert refused.error.code == "empty_input"
