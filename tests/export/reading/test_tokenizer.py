"""What a checkpoint's tokenizer says beside its tokens is taken over, or refused."""

from pathlib import Path

import numpy as np
import pytest

from export.errors import UnsupportedModel
from export.reading.tokenizer import load_tokenizer
from models import Pipeline
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.oracle import Original, pool, write_texts
from tests.helpers.store import Store


def test_texts_are_cut_where_the_checkpoint_cuts_them(tmp_path: Path, exports: Store) -> None:
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    plain = Pipeline.open(exports.export(source, "cut"))
    assert plain.manifest.truncation_side == "right"
    assert plain.manifest.format_version == 1
    change_json(source / "tokenizer_config.json", truncation_side="left")
    pipeline = Pipeline.open(exports.export(source, "cut"))
    assert pipeline.manifest.truncation_side == "left"
    # Whoever knows of no sides would answer with the other one.
    assert pipeline.manifest.format_version == 2
    original = Original(source)
    texts = write_texts(12, longest=140)
    wanted = [pool(original.hidden(text)) for text in texts]
    found = pipeline.embed(texts, overflow="truncate", normalize=False)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    right = pipeline.embed(texts, overflow="truncate", normalize=False, truncation_side="right")
    same = plain.embed(texts, overflow="truncate", normalize=False)
    np.testing.assert_allclose(right, same, atol=1e-5)
    assert np.abs(right - found).max() > 1e-2


def test_special_tokens_that_are_split_are_refused(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    change_json(source / "tokenizer_config.json", split_special_tokens=True)
    with pytest.raises(UnsupportedModel, match="split_special_tokens True"):
        load_tokenizer(source, Original(tmp_path / "source").config)
