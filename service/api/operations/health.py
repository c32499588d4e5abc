"""GET /health/live, /health/ready and /metrics: what surrounds the service asks these."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from service.api.openapi import ERRORS
from service.api.route import Answer, Ask, declare, json_response
from service.endpoint import Kind
from service.observability.metrics import CONTENT_TYPE, Metrics
from service.registry.manager import ModelManager

router = APIRouter(tags=["operation"], route_class=declare(Kind.OPERATION))
# Asked again and again until it succeeds.
probes = APIRouter(tags=["operation"], route_class=declare(Kind.OPERATION, probe=True))
# As load balancers, SageMaker and clients of other servers look.
plain = APIRouter(route_class=declare(Kind.OPERATION, probe=True), include_in_schema=False)
measures = APIRouter(tags=["operation"], route_class=declare(Kind.OPERATION, page="metrics"))


class Health(BaseModel):
    """The process answers, or every model does."""

    status: Literal["live", "ready"]


@router.get(
    "/health/live",
    response_model=Health,
    responses={status: ERRORS[status] for status in (500, 503)},
)
async def live(ask: Ask) -> bytes:
    """Say that the process answers, or 503 where only a new one would help."""
    manager: ModelManager = ask.state.manager
    manager.check_live()
    return json_response({"status": "live"})


@probes.get(
    "/health/ready",
    response_model=Health,
    responses={status: ERRORS[status] for status in (500, 503)},
)
async def ready(ask: Ask) -> bytes:
    """Say that every model answers, or 503 and why not."""
    manager: ModelManager = ask.state.manager
    manager.check_ready()
    return json_response({"status": "ready"})


@plain.get("/", response_model=None)
@plain.get("/ping", response_model=None)
@plain.get("/health", response_model=None)
async def well(ask: Ask) -> Answer:
    """Say that every model answers, to those who look at the status alone."""
    manager: ModelManager = ask.state.manager
    manager.check_ready()
    return Answer(b"", b"text/plain")


@measures.get(
    "/metrics",
    response_model=None,
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Prometheus' exposition format."},
        500: ERRORS[500],
    },
)
async def metrics(ask: Ask) -> Answer:
    """Render the metrics for Prometheus."""
    found: Metrics = ask.state.metrics
    return Answer(found.render(), CONTENT_TYPE.encode())
