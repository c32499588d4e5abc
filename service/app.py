"""The application: everything is made here, from settings, and nothing at import."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from models.errors import ClozeError
from service import errors
from service.docs import add_docs
from service.edge import Edge
from service.engine import Engine
from service.errors import describe, find_status, translate_validation
from service.guard import Guard
from service.headers import Cors, SecurityHeaders, describe_cors
from service.keys import KeyRing
from service.metrics import Metrics
from service.routes import ROUTERS
from service.routes.route import json_response
from service.settings import Settings

VERSION = "0.1.0"
_RETRY_AFTER_S = "1"
_DESCRIPTION = "Embeddings, fill-mask, next-sentence and classification from trained BERTs."

_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings, on_failure: Callable[[Exception], None] | None = None
) -> FastAPI:
    """Make an application that loads its models once it is started.

    It answers at once, with 503 until they are loaded; `on_failure` hears why they cannot be.
    """
    metrics = Metrics()
    keys = KeyRing(settings.api_keys, settings.api_keys_file)
    engine = Engine(settings, metrics)

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(engine, on_failure))
        yield
        await loading
        await asyncio.to_thread(engine.close)

    app = FastAPI(
        title="Cloze",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=run,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.engine = engine
    app.state.keys = keys
    for router in ROUTERS:
        app.include_router(router)
    add_docs(app)
    _add_layers(app, settings, metrics, keys)
    app.add_exception_handler(ClozeError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.openapi = lambda: _describe_api(app)  # type: ignore[method-assign]
    return app


def _add_layers(app: FastAPI, settings: Settings, metrics: Metrics, keys: KeyRing) -> None:
    """What a request passes before its route: security headers, CORS, the edge, the guard."""
    found = (*app.routes, *(route for router in ROUTERS for route in router.routes))
    routes = {getattr(route, "path", ""): route for route in found}
    # The innermost first. CORS is the last, for answers of the edge; the guard answers preflights,
    # so that these are timed and counted too.
    layers: list[tuple[Any, dict[str, Any]]] = [
        (Guard, {"settings": settings, "keys": keys, "find_route": routes.get}),
        (Edge, {"metrics": metrics}),
        (SecurityHeaders, {}),
    ]
    if settings.cors_origins:
        layers.append((Cors, describe_cors(settings.cors_origins)))
    for layer, options in layers:
        app.add_middleware(layer, **options)


async def _load(engine: Engine, on_failure: Callable[[Exception], None] | None) -> None:
    try:
        await asyncio.to_thread(engine.load)
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


async def _answer_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ClozeError):
        raise error
    status = find_status(error)
    response = json_response(describe(error), status)
    if status in (429, 503):
        response.headers["Retry-After"] = _RETRY_AFTER_S
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _answer_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return await _answer_error(request, translate_validation(error))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own errors: no such route, or not with that method."""
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path
    settings: Settings = request.app.state.settings
    if error.status_code == 404:
        return await _answer_error(request, errors.RouteNotFound.of(path, settings.docs))
    if error.status_code == 405:
        response = await _answer_error(
            request, errors.MethodNotAllowed(f"{path} does not take {request.method}")
        )
        response.headers.update(error.headers or {})
        return response
    return await _answer_error(request, errors.InvalidRequest(str(error.detail)))


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
        for path, operations in schema["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{}, {"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def configure_logging() -> None:
    """JSON lines on stderr, from this service and from uvicorn."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the variables of each frame: these are texts and keys of callers.
            ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
