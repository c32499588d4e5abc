"""The routes, one module a task, and two for what surrounds them."""

from fastapi import APIRouter

from service.routes import classify, embed, fill_mask, health, models, next_sentence

ROUTERS: tuple[APIRouter, ...] = (
    embed.router,
    fill_mask.router,
    next_sentence.router,
    classify.router,
    models.router,
    health.router,
)
