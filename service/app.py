"""The application: everything is made here, from settings, and nothing at import."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.types import Scope

from models.errors import ClozeError, SettingsError
from service.api import ROUTERS
from service.api.error_handlers import add_handlers
from service.api.operations import admin
from service.blocking import run_blocking
from service.keys import KeyRing, reload_keys
from service.limits.body_budget import Budget
from service.middleware.access_control import Guard
from service.middleware.drain import Drain
from service.middleware.instrument import UNKNOWN_ROUTE, Edge
from service.middleware.security_headers import Cors, SecurityHeaders, describe_cors
from service.observability.access_log import AccessLog
from service.observability.metrics import Metrics
from service.observability.request_record import Times
from service.observability.tracing import start_tracing
from service.pages.docs import add_docs
from service.registry.manager import Engine
from service.settings import Settings

if TYPE_CHECKING:
    from service.observability.spans import Spans

VERSION = "0.1.0"
# A batch that has not ended by then is stuck: the process ends without it.
_CLOSE_S = 5.0
_SHOWN_CHARACTERS = 200
_DESCRIPTION = "Embeddings, fill-mask, next-sentence and classification from trained BERTs."
# FastAPI's own spans and log records quote query strings and exceptions, and an environment
# variable would switch them on; service/observability/spans.py makes those that are sent.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings, on_failure: Callable[[Exception], None] | None = None
) -> FastAPI:
    """Make an application that loads its models once it is started.

    It answers at once, with 503 until they are loaded; `on_failure` hears why they cannot be.
    Raises SettingsError where settings contradict one another, or traces cannot be sent as the
    environment asks.
    """
    metrics = Metrics()
    budget = Budget.of(settings)
    metrics.watch_pending(lambda: budget.held)
    tracing = start_tracing(VERSION)
    if tracing is not None:
        metrics.on_batch = tracing.observe_batch
    engine = Engine(settings, metrics)
    app = FastAPI(
        title="Cloze",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lambda _: _live(engine, tracing, on_failure),
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.budget = budget
    app.state.access = AccessLog(settings)
    app.state.engine = engine
    app.state.drain = Drain(engine)
    app.state.keys = KeyRing(settings.api_keys, settings.api_keys_file)
    app.state.admin_keys = KeyRing(settings.admin_keys, settings.admin_keys_file)
    routers = (*ROUTERS, admin.router) if settings.admin_keys else ROUTERS
    for router in routers:
        app.include_router(router)
    add_docs(app)
    routes = (*app.routes, *(route for router in routers for route in router.routes))
    _add_layers(app, tracing, {getattr(route, "path", ""): route for route in routes})
    add_handlers(app)
    app.openapi = lambda: _describe_api(app)  # type: ignore[method-assign]
    return app


def _add_layers(app: FastAPI, tracing: "Spans | None", routes: Mapping[str, Any]) -> None:
    """What each request passes before its route; the innermost is added first."""
    settings: Settings = app.state.settings
    app.add_middleware(app.state.drain.wrap)
    app.add_middleware(
        Guard,
        settings=settings,
        keys=app.state.keys,
        admin_keys=app.state.admin_keys,
        admit=app.state.engine.check_room,
        find_route=routes.get,
    )
    app.add_middleware(Edge, metrics=app.state.metrics, access=app.state.access, tracing=tracing)
    app.add_middleware(SecurityHeaders)
    if settings.cors_origins:
        # The last, for answers of the edge; the guard answers preflights, so that these are timed
        # and counted too.
        app.add_middleware(Cors, **describe_cors(settings.cors_origins))


@asynccontextmanager
async def _live(
    engine: Engine, tracing: "Spans | None", on_failure: Callable[[Exception], None] | None
) -> AsyncIterator[None]:
    """Load the models while requests are answered already, and let go of all at the end."""
    loading = asyncio.create_task(_load(engine, on_failure))
    yield
    # Models that are still loading are not waited for.
    loading.cancel()
    with suppress(asyncio.CancelledError):
        await loading
    await _close(engine)
    if tracing is not None:
        await run_blocking(tracing.close, "traces")


def tell_refused(app: FastAPI, scope: Scope, status: int, times: Times) -> None:
    """Count and log an answer that was given before there was a request: to no route."""
    app.state.metrics.count_refused(status, times.code)
    app.state.access.write(scope, UNKNOWN_ROUTE, status, 0.0, times)


def reload_all(app: FastAPI) -> None:
    """Read the files of keys and the set of bundles again, while serving; blocks.

    What fails is logged, and leaves what was there; of the two files of keys neither counts then.
    """
    try:
        reload_keys(app.state.keys, app.state.admin_keys)
    except SettingsError as error:
        _log.error("the keys could not be read again", reason=str(error))
    app.state.engine.reload()


async def _load(engine: Engine, on_failure: Callable[[Exception], None] | None) -> None:
    try:
        await run_blocking(engine.load, "loading")
    except ClozeError as error:
        _log.error("cannot serve", reason=str(error))
        if on_failure is not None:
            on_failure(error)
    except Exception as error:
        _log.exception("cannot serve")
        if on_failure is not None:
            on_failure(error)
    else:
        for model in engine.registry:
            url = f"http://{engine.settings.host}:{engine.settings.port}"
            tasks = model.pipeline.manifest.tasks
            _log.info("serving", model=model.name, tasks=tasks, url=url)


async def _close(engine: Engine) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await run_blocking(engine.close, "closing")
    except TimeoutError:
        _log.warning("a batch has not ended and is left to itself", seconds=_CLOSE_S)


def _describe_api(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the key as an option and no schema that no route uses."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schema["components"]["securitySchemes"] = {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "Asked for where the operator has set API keys.",
            }
        }
        if app.state.settings.admin_keys:
            schema["components"]["securitySchemes"]["admin_key"] = {
                "type": "http",
                "scheme": "bearer",
                "description": "One of the admin keys; API keys are none.",
            }
        for path, operations in schema["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{}, {"key": []}]
            if path.startswith("/admin/"):
                for operation in operations.values():
                    operation["security"] = [{"admin_key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
