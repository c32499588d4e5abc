"""The application: everything is made here, from settings, and nothing at import.

FastAPI gives what its types say: the OpenAPI document, and the state and life of the application.
Requests pass our own layers, outermost first CORS where it is asked for, then instrument and access
control, which hands them to their route; routes read and answer by themselves
(service/api/route.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import ClozeError, SettingsError
from service.answering.answerer import Answerer
from service.api import ADMIN_ROUTERS, DIALECTS, ROUTERS
from service.api.openapi import describe_api
from service.api.table import EndpointTable
from service.api.tei.metrics import TeiMetrics
from service.blocking import run_blocking
from service.endpoint import NOWHERE
from service.keys import KeyRing, reload_keys
from service.limits.body_budget import Budget
from service.middleware.access_control import AccessControl
from service.middleware.cors import Cors, describe_cors
from service.middleware.drain import Drain
from service.middleware.instrument import Instrument
from service.observability.access_log import AccessLog
from service.observability.log_stream import LOG
from service.observability.metrics import Metrics
from service.observability.request_record import RequestRecord
from service.observability.tracing import start_tracing
from service.registry.manager import ModelManager
from service.server.addresses import write_url
from service.settings import Settings

if TYPE_CHECKING:
    from service.observability.spans import Spans

VERSION = "0.1.0"
# A batch that has not ended by then is stuck: the process ends without it.
_CLOSE_S = 5.0
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


class Application(FastAPI):
    """A FastAPI application whose requests pass our layers, and none of its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live from the start of the process to its end."""
        scope["app"] = self
        await self.state.entry(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """What each request passes before its route; the process's life is the router's."""
        state, settings = self.state, self.state.settings
        control = AccessControl(
            settings=settings,
            keys=state.keys,
            admin_keys=state.admin_keys,
            drain=state.drain,
            admit=state.manager.registry.check_room,
            suggest=state.endpoints.suggest,
        )
        layers: ASGIApp = Instrument(
            control,
            life=self.router,
            metrics=state.metrics,
            find=state.endpoints.__getitem__,
            resolve=state.endpoints.resolve,
            drain=state.drain,
            access=state.access,
            tracing=state.tracing,
        )
        if settings.cors_origins:
            # The access control answers preflights, so that these are timed and counted too.
            layers = Cors(layers, **describe_cors(settings.cors_origins))
        return layers

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return describe_api(self, self.state.endpoints)


def create_app(
    settings: Settings, on_failure: Callable[[Exception], None] | None = None
) -> FastAPI:
    """Make an application that loads its models once it is started.

    It answers at once, with 503 until they are loaded; `on_failure` hears why they cannot be.
    Raises SettingsError where settings contradict one another, or traces cannot be sent as the
    environment asks.
    """
    metrics = Metrics()
    LOG.on_drop = metrics.log_lines_dropped.inc
    budget = Budget.of(settings)
    metrics.watch_pending(lambda: budget.held)
    tracing = start_tracing(VERSION)
    if tracing is not None:
        metrics.on_batch.append(tracing.observe_batch)
    if settings.tei_metrics:
        TeiMetrics(metrics)
    manager = ModelManager(settings, metrics)
    app: FastAPI = Application(
        title="Cloze",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lambda _: _live(app, on_failure),
        redirect_slashes=False,
        # As the functions of clients that are made of the document shall be called.
        generate_unique_id_function=lambda route: route.name,
        telemetry=_NO_TELEMETRY,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    state = app.state
    state.settings = settings
    state.metrics = metrics
    state.budget = budget
    state.tracing = tracing
    state.access = AccessLog(settings)
    state.manager = manager
    state.answerer = Answerer(manager.registry, settings, metrics)
    state.drain = Drain(manager.drain)
    state.keys = KeyRing(settings.api_keys, settings.api_keys_file)
    state.admin_keys = KeyRing(settings.admin_keys, settings.admin_keys_file)
    state.pages = {}  # by name, each written when it is first asked for
    spoken = (router for name in settings.dialects for router in DIALECTS[name])
    admin = ADMIN_ROUTERS if settings.admin_keys else ()
    # Some are of two dialects, and there once.
    routers = {id(router): router for router in (*ROUTERS, *spoken, *admin)}.values()
    for router in routers:
        app.include_router(router)
    routes = (route for router in routers for route in router.routes)
    state.endpoints = EndpointTable(routes, app, settings.root_path)
    state.entry = app.build_middleware_stack()
    return app


@asynccontextmanager
async def _live(
    app: FastAPI, on_failure: Callable[[Exception], None] | None
) -> AsyncIterator[None]:
    """Load the models while requests are answered already, and let go of all at the end."""
    manager: ModelManager = app.state.manager
    tracing: Spans | None = app.state.tracing
    loading = asyncio.create_task(_load(manager, on_failure))
    yield
    # Models that are still loading are not waited for.
    loading.cancel()
    with suppress(asyncio.CancelledError):
        await loading
    await _close(manager, app.state.answerer)
    if tracing is not None:
        await run_blocking(tracing.close, "traces")


def tell_refused(app: FastAPI, scope: Scope, status: int, record: RequestRecord) -> None:
    """Count and log an answer that was given before there was a request: to no route."""
    app.state.metrics.count_refused(status, record.code)
    app.state.access.write(scope, NOWHERE, status, 0.0, record)


def reload_all(app: FastAPI) -> None:
    """Read the files of keys and the set of bundles again, while serving; blocks.

    What fails is logged, and leaves what was there; of the two files of keys neither counts then.
    """
    keys, admin_keys = app.state.keys, app.state.admin_keys
    try:
        reload_keys(keys, admin_keys)
    except SettingsError as error:
        _log.error("the keys could not be read again", reason=str(error))
    else:
        if keys.filed or admin_keys.filed:
            count = {"keys": len(keys.keys), "admin_keys": len(admin_keys.keys)}
            _log.info("the keys were read again", **count)
    app.state.manager.reload()


async def _load(manager: ModelManager, on_failure: Callable[[Exception], None] | None) -> None:
    try:
        await run_blocking(manager.load, "loading")
    except ClozeError as error:
        # Who listens tells the reason as the last line; it need not be told twice.
        if on_failure is None:
            _log.error("cannot serve", reason=str(error))
        else:
            on_failure(error)
    except Exception as error:
        _log.exception("cannot serve")
        if on_failure is not None:
            on_failure(error)
    else:
        settings = manager.settings
        url = write_url(settings.host, settings.port, settings.root_path)
        for model in manager.registry:
            tasks = model.pipeline.manifest.tasks
            told = {"precision": model.pipeline.precision, "engine": model.pipeline.choice.engine}
            _log.info("serving", model=model.name, tasks=tasks, **told, url=url)


async def _close(manager: ModelManager, answerer: Answerer) -> None:
    def close() -> None:
        manager.close()
        answerer.close()

    try:
        async with asyncio.timeout(_CLOSE_S):
            await run_blocking(close, "closing")
    except TimeoutError:
        _log.warning("a batch has not ended and is left to itself", seconds=_CLOSE_S)
