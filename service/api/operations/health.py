"""GET /health/live, /health/ready and /metrics: what surrounds the service asks these."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.api.request import ERRORS, json_response
from service.observability.metrics import CONTENT_TYPE, Metrics
from service.registry.manager import Engine

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process answers, or every model does."""

    status: Literal["live", "ready"]


@router.get(
    "/health/live",
    response_model=Health,
    responses={status: ERRORS[status] for status in (500, 503)},
)
async def live(request: Request) -> Response:
    """Say that the process answers, or 503 where only a new one would help."""
    engine: Engine = request.app.state.engine
    engine.check_live()
    return json_response({"status": "live"})


@router.get(
    "/health/ready",
    response_model=Health,
    responses={status: ERRORS[status] for status in (500, 503)},
)
async def ready(request: Request) -> Response:
    """Say that every model answers, or 503 and why not."""
    engine: Engine = request.app.state.engine
    engine.check_ready()
    return json_response({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Prometheus' exposition format."},
        500: ERRORS[500],
    },
)
async def metrics(request: Request) -> Response:
    """Render the metrics for Prometheus."""
    found: Metrics = request.app.state.metrics
    return Response(found.render(), media_type=CONTENT_TYPE)
