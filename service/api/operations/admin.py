"""/admin/bundles: bundles are loaded, replaced and removed while the service answers.

There only where the operator has set admin keys. API keys do not open it, nor admin keys /v1.
"""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.openapi import ERRORS
from service.api.route import Ask, declare, json_response
from service.api.schemas import Fields
from service.blocking import run_blocking
from service.endpoint import Dialect, Kind
from service.error_response import ErrorBody
from service.registry.inventory import BundleState
from service.registry.manager import ModelManager

_LONGEST_PATH = 4_096
_CONFLICT = {"model": ErrorBody, "description": "Another change is under way, or the last model."}
_NO_KEY = {"model": ErrorBody, "description": "No admin key, or an unknown one."}
_COMMON: dict[int | str, dict[str, Any]] = {401: _NO_KEY, 500: ERRORS[500], 503: ERRORS[503]}

# What is below and leads nowhere asks for an admin key too.
ADMIN = Dialect("admin", prefixes=("/admin",), kind=Kind.ADMIN)

router = APIRouter(prefix="/admin", tags=["admin"], route_class=declare(Kind.ADMIN, ADMIN))


class LoadBody(Fields):
    """Which bundle to load."""

    path: str = Field(
        min_length=1,
        max_length=_LONGEST_PATH,
        description="The bundle's directory, inside of a folder of CLOZE_BUNDLES.",
        examples=["/bundles/my-bert"],
    )
    precision: str | None = Field(
        default=None, description="Which of its precisions; left out, the server's setting."
    )


class BundleInfo(BaseModel):
    """A bundle and what becomes of it; what is not known before it is loaded is null."""

    name: str | None
    path: str
    precision: str | None
    fingerprint: str | None
    tasks: list[str]
    state: BundleState
    reason: str | None = Field(description="Why it has failed.")
    requests: int = Field(description="Requests that it answers at this moment.")
    loaded_at: str | None = Field(examples=["2026-01-31T12:00:00+00:00"])


class BundlesResponse(BaseModel):
    """Every bundle: those that answer, in their order, then those that come, go or have failed."""

    bundles: list[BundleInfo]


@router.get("/bundles", response_model=BundlesResponse, responses=_COMMON)
async def list_bundles(ask: Ask) -> bytes:
    """List the bundles, also while the service is not ready."""
    manager: ModelManager = ask.state.manager
    return json_response({"bundles": [asdict(entry) for entry in manager.registry.list()]})


@router.post(
    "/bundles",
    response_model=BundleInfo,
    responses={
        **_COMMON,
        **{status: ERRORS[status] for status in (400, 413)},
        409: _CONFLICT,
        422: {"model": ErrorBody, "description": "The bundle cannot be loaded, and why."},
    },
)
async def load_bundle(body: LoadBody, ask: Ask) -> bytes:
    """Load a bundle, or replace the loaded one of its name.

    Answers when it serves and what it replaced is gone. If it cannot be loaded nothing changes.
    """
    manager: ModelManager = ask.state.manager
    entry = await run_blocking(lambda: manager.add_bundle(body.path, body.precision), "loading")
    return json_response(asdict(entry))


@router.delete(
    "/bundles/{name:path}",
    response_model=BundleInfo,
    responses={
        **_COMMON,
        404: {"model": ErrorBody, "description": "No model of that name."},
        409: _CONFLICT,
    },
)
async def remove_bundle(ask: Ask, name: str) -> bytes:
    """Remove a model; answers when its last request is answered and its memory is free."""
    manager: ModelManager = ask.state.manager
    entry = await run_blocking(lambda: manager.remove_bundle(name), "removing")
    return json_response(asdict(entry))
