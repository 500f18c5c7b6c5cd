# SPDX-License-Identifier: Apache-2.0
"""The routes of the endpoint, and a chat page at /."""

import json
from collections.abc import Callable
from pathlib import Path

from serving.api import Answering, Served
from serving.api_error import ApiError
from serving.asked import Asked, read_chat, read_completion
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PAGE = Path(__file__).with_name("chat.html")


def make_app(models: dict[str, Served]) -> Starlette:
    """The first of `models` is that of requests that name none."""
    endpoint = Endpoint(models)
    return Starlette(
        routes=[
            Route("/", endpoint.page),
            Route("/v1/models", endpoint.list_models),
            Route("/v1/models/{name:path}", endpoint.show_model),
            Route("/v1/completions", endpoint.completions, methods=["POST"]),
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
        ],
        # A page elsewhere must not reach it under a name of its own.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])],
        exception_handlers={ApiError: refuse, HTTPException: refuse_address},
    )


async def refuse(_: Request, error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status)


async def refuse_address(request: Request, error: HTTPException) -> Response:
    told = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(ApiError(error.status_code, told).body(), error.status_code)


async def body_of(request: Request):
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error


def told(name: str) -> dict:
    return {"id": name, "object": "model", "created": 0, "owned_by": "temper"}


class Endpoint:
    """What is answered at each address."""

    def __init__(self, models: dict[str, Served]):
        self.models = models

    def served_as(self, name) -> Served:
        if name is None:
            return next(iter(self.models.values()))
        if not isinstance(name, str) or name not in self.models:
            known = ", ".join(self.models)
            message = f"there is no model {str(name)[:60]!r}; there are: {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return self.models[name]

    async def page(self, _: Request) -> Response:
        return HTMLResponse(PAGE.read_text())

    async def list_models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [told(name) for name in self.models]})

    async def show_model(self, request: Request) -> Response:
        return JSONResponse(told(self.served_as(request.path_params["name"]).name))

    async def completions(self, request: Request) -> Response:
        return await self.answer(request, read_completion, is_chat=False)

    async def chat(self, request: Request) -> Response:
        return await self.answer(request, read_chat, is_chat=True)

    async def answer(self, request: Request, read: Callable[..., Asked], is_chat: bool) -> Response:
        body = await body_of(request)
        served = self.served_as(body.get("model") if isinstance(body, dict) else None)
        asked = read(body, served.tokenizer, served.room)
        answering = Answering(served, asked, is_chat)
        pieces = answering.pieces()
        if not asked.streams:
            async for _ in pieces:
                pass
            return JSONResponse(answering.whole())
        first = await anext(pieces)  # What is refused, is refused before a stream begins.
        return StreamingResponse(answering.events(first, pieces), media_type="text/event-stream")
