"""The routes: a package a dialect (a way of asking), a module a task, and what operates them."""

from fastapi import APIRouter

from service.api.native import (
    classify,
    fill_mask,
    next_sentence,
    question_answering,
    score,
    similarity,
    token_classify,
)
from service.api.openai import embed, models
from service.api.operations import admin, documents, health

ROUTERS: tuple[APIRouter, ...] = (
    embed.router,
    fill_mask.router,
    next_sentence.router,
    classify.router,
    token_classify.router,
    question_answering.router,
    similarity.router,
    score.router,
    models.router,
    health.router,
    health.probes,
    health.measures,
    documents.router,
)
# There only where the operator has set admin keys.
ADMIN_ROUTERS: tuple[APIRouter, ...] = (admin.router,)
