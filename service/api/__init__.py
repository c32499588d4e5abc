"""The routes: a package a dialect (a way of asking), a module a task, and what operates them."""

from fastapi import APIRouter

from service.api.cohere import embed as cohere_embed
from service.api.cohere import rerank, voyage
from service.api.huggingface import routes as huggingface
from service.api.infinity import routes as infinity
from service.api.kserve import routes as kserve
from service.api.native import (
    attention,
    classify,
    detokenize,
    fill_mask,
    next_sentence,
    question_answering,
    score,
    similarity,
    token_classify,
    tokenize,
    words,
)
from service.api.openai import azure, embed, models
from service.api.operations import admin, documents, health
from service.api.tei import openai as tei_openai
from service.api.tei import routes as tei
from service.api.tei import weaviate
from service.settings import DialectName

ROUTERS: tuple[APIRouter, ...] = (
    embed.router,
    azure.router,
    fill_mask.router,
    next_sentence.router,
    classify.router,
    token_classify.router,
    question_answering.router,
    similarity.router,
    score.router,
    rerank.router,
    tokenize.router,
    detokenize.router,
    attention.router,
    words.router,
    models.router,
    health.router,
    health.probes,
    health.plain,
    health.measures,
    documents.router,
)
# Those of other servers' clients, by the name that switches them off. Ranking is our own, too.
DIALECTS: dict[DialectName, tuple[APIRouter, ...]] = {
    "huggingface": (huggingface.router, tei.shared),
    # Before the others, of which the last takes whatever is below a base.
    "tei": (tei_openai.router, weaviate.router, weaviate.probes, tei.router, tei.shared),
    "cohere": (cohere_embed.router, voyage.router),
    "infinity": (infinity.router,),
    "kserve": (kserve.router, kserve.probes),
}
# There only where the operator has set admin keys.
ADMIN_ROUTERS: tuple[APIRouter, ...] = (admin.router,)
