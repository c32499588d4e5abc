"""The losses over packed rows are those of transformers' BertForPreTraining."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from training.pretraining.batches import Batch, Epoch
from training.pretraining.losses import compute_outcome
from training.text.store import TokenStore


@pytest.fixture
def model(tiny_config: BertConfig) -> BertForPreTraining:
    """A model with random weights."""
    torch.manual_seed(1)
    return BertForPreTraining(tiny_config).eval()


@pytest.fixture
def batch(store: TokenStore, model: BertForPreTraining) -> Batch:
    """Some packed rows."""
    rng = np.random.default_rng(4)
    return Epoch(store, 64, 0, 0).make_batch(0, 6, model.config.vocab_size, rng)


def ask(model: BertForPreTraining, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Both losses as transformers gives them, a text at a time; weighed by what is asked."""
    gold = np.full(batch.rows.token_ids.size, -100)
    gold[batch.masked_cells] = batch.masked_ids
    labels = dict(zip(batch.pair_cells.tolist(), batch.pair_labels.tolist(), strict=True))
    tables = (batch.rows.token_ids, batch.rows.token_type_ids)
    ids, types = (torch.from_numpy(table.flatten()) for table in tables)
    mlm, nsp = [], []
    zipped = zip(batch.rows.first_cells.tolist(), batch.rows.lengths.tolist(), strict=True)
    for cell, length in zipped:
        cells = slice(cell, cell + length)
        asked = torch.from_numpy(gold[cells])[None]
        hidden = int((asked >= 0).sum())
        label = labels.get(cell)
        known = {"input_ids": ids[cells][None], "token_type_ids": types[cells][None]}
        # transformers adds up the two means, so each is asked for beside one that is known.
        output = model(**known)
        if hidden:
            both = model(**known, labels=asked, next_sentence_label=torch.tensor([label or 0]))
            scores = output.seq_relationship_logits
            other = torch.nn.functional.cross_entropy(scores, torch.tensor([label or 0]))
            mlm.append((both.loss - other) * hidden)
            if label is not None:
                nsp.append(other)
        elif label is not None:
            scores = output.seq_relationship_logits
            nsp.append(torch.nn.functional.cross_entropy(scores, torch.tensor([label])))
    return sum(mlm) / len(batch.masked_cells), sum(nsp) / len(labels)


def test_packed_losses_equal_those_of_texts_alone(model: BertForPreTraining, batch: Batch) -> None:
    with torch.no_grad():
        mlm, nsp = ask(model, batch)
        outcome = compute_outcome(model, batch)
    torch.testing.assert_close(outcome.mlm_loss, mlm, atol=1e-5, rtol=0)
    torch.testing.assert_close(outcome.loss, mlm + nsp, atol=1e-5, rtol=0)


def test_one_text_alone_has_the_loss_of_transformers(
    model: BertForPreTraining, store: TokenStore
) -> None:
    epoch = Epoch(store, 30, 0, 0)  # so narrow that rows hold a text each
    seen = 0
    for row in range(40):
        batch = epoch.make_batch(row, 1, model.config.vocab_size, np.random.default_rng(row))
        if len(batch.rows.lengths) != 1 or len(batch.pair_labels) != 1:
            continue
        length = int(batch.rows.lengths[0])
        gold = np.full(length, -100)
        gold[batch.masked_cells] = batch.masked_ids
        with torch.no_grad():
            wanted = model(
                input_ids=torch.from_numpy(batch.rows.token_ids[:, :length]),
                token_type_ids=torch.from_numpy(batch.rows.token_type_ids[:, :length]),
                labels=torch.from_numpy(gold)[None],
                next_sentence_label=torch.from_numpy(batch.pair_labels),
            ).loss
            found = compute_outcome(model, batch).loss
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        seen += 1
    assert seen > 2


def test_accuracies_count_the_best_answers(model: BertForPreTraining, batch: Batch) -> None:
    with torch.no_grad():
        model.cls.seq_relationship.bias.copy_(torch.tensor([100.0, 0.0]))
        model.cls.predictions.bias.zero_()
        model.cls.predictions.bias[int(batch.masked_ids[0])] = 100.0
        outcome = compute_outcome(model, batch)
    figures = outcome.figures()
    assert figures["nsp_accuracy"] == pytest.approx(np.mean(batch.pair_labels == 0))
    share = np.mean(batch.masked_ids == batch.masked_ids[0])
    assert figures["mlm_accuracy"] == pytest.approx(share)
    assert figures["loss"] == outcome.loss.item()


def test_a_batch_without_pairs_has_one_loss(model: BertForPreTraining, batch: Batch) -> None:
    none = np.zeros(0, np.int64)
    outcome = compute_outcome(model, replace(batch, pair_cells=none, pair_labels=none))
    assert torch.equal(outcome.loss, outcome.mlm_loss)
    assert np.isnan(outcome.figures()["nsp_accuracy"])
