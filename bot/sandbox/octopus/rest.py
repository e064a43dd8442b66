"""The REST API of the sandbox's Octopus Server: keys, spaces, faults, rate limit, errors; then the resources."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.errors import ApiError, missing
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.permissions import User
from bot.sandbox.octopus.rate import RateLimit
from bot.sandbox.octopus.store import Store

Body = Document | list[Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, with what every resource needs of it."""

    user: User
    space: str
    """Id of the space in its path, or of the default space."""
    path: str
    parts: dict[str, str]
    """The members of its path by name, such as `id`."""
    query: tuple[tuple[str, str], ...]
    body: Any

    def asked(self, name: str) -> str | None:
        """Return a parameter of the query, named without regard to case."""
        return next((v for k, v in self.query if k.lower() == name.lower() and v), None)

    def listed(self, name: str) -> list[str] | None:
        """Return a parameter that holds a comma-separated list, or is repeated; None when it is not given."""
        given = [v for k, v in self.query if k.lower() == name.lower()]
        return [p for v in given for p in v.split(",") if p] if given else None

    def flag(self, name: str) -> bool | None:
        """Return a parameter that is true or false; None when it is not given."""
        text = self.asked(name)
        return None if text is None else text.lower() == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a resource answers, when it is not just a document with status 200."""

    body: Body | None
    status: int = 200


Resource = Callable[[Call], Body | Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A resource at its place below `/api` (or `/api/{space}`)."""

    method: str
    path: str
    resource: Resource
    in_space: bool = True
    is_slow: bool = False
    """Whether it waits for the network and so needs a thread of its own."""
    is_public: bool = False
    """Whether it answers without a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One request that was answered."""

    method: str
    path: str
    query: str
    user: str | None
    status: int


class Gate:
    """Everything that happens to a request before and after its resource: faults, key, rate limit, errors."""

    def __init__(
        self, store: Store, faults: OctopusFaults, rate: RateLimit, traffic: list[Traffic], threads: Executor
    ) -> None:
        self._store = store
        self._faults = faults
        self._rate = rate
        self._traffic = traffic
        self._threads = threads

    def application(self, bindings: Sequence[Binding], *pages: Route) -> Starlette:
        """Return the ASGI application for these resources, and pages that need no key."""
        routes: list[Route] = [*pages]
        for binding in bindings:
            prefixes = ("/api", "/api/spaces/{space}", "/api/{space}") if binding.in_space else ("/api",)
            serve = partial(self._serve, binding)
            routes += [Route(prefix + binding.path, serve, methods=[binding.method]) for prefix in prefixes]
        routes.append(Route("/{path:path}", self._unknown, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]))
        return Starlette(routes=routes)

    async def _serve(self, binding: Binding, request: Request) -> Response:
        user = self._user(request)
        try:
            response = await self._answer(binding, request, user)
        except ApiError as error:
            headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
            response = JSONResponse(error.to_document(), error.status, headers)
        return self._noted(request, user, response)

    async def _answer(self, binding: Binding, request: Request, user: User | None) -> Response:
        faults = self._faults
        if faults.down:
            return PlainTextResponse("Service Unavailable", 503)
        if faults.rate_limited > 0:
            faults.rate_limited -= 1
            raise too_many(faults.retry_after)
        if faults.server_errors > 0:
            faults.server_errors -= 1
            raise ApiError(500, "An unexpected error occurred on the server.")
        if user is None:
            if not binding.is_public:
                raise _unauthorized(request)
            user = User(id="", username="", api_key="", grants=())
        else:
            wait = self._rate.take(user.id)
            if wait is not None:
                raise too_many(wait)
        writes = request.method != "GET"
        if writes and faults.maintenance and not user.may("AdministerSystem"):
            raise ApiError(503, "Octopus is in maintenance mode.")  # status and wording UNVERIFIED
        call = Call(
            user=user,
            space=self._space(request.path_params.get("space"), user),
            path=request.url.path,
            parts={k: str(v) for k, v in request.path_params.items()},
            query=tuple(request.query_params.multi_items()),
            body=await _body(request),
        )
        answer = await self._call(binding, call)
        if writes and faults.lost_answers > 0:
            faults.lost_answers -= 1
            return PlainTextResponse("Bad Gateway", 502)
        if not isinstance(answer, Answer):
            answer = Answer(body=answer)
        return JSONResponse(answer.body, answer.status)

    async def _call(self, binding: Binding, call: Call) -> Body | Answer:
        if not binding.is_slow:
            return binding.resource(call)
        return await asyncio.get_running_loop().run_in_executor(self._threads, binding.resource, call)

    def _user(self, request: Request) -> User | None:
        key = request.headers.get("X-Octopus-ApiKey") or request.query_params.get("apikey")
        with self._store.lock:
            return next((u for u in self._store.users if key and u.api_key == key), None)

    def _space(self, named: str | None, user: User) -> str:
        """Return the id of the space of a path: by id or slug; the default space where none is named."""
        with self._store.lock:
            for id_, space in self._store.spaces.items():
                if (named is None and space["IsDefault"]) or (named and named.lower() in {id_.lower(), space["Slug"]}):
                    return id_
        raise missing(named or "Spaces-1")

    async def _unknown(self, request: Request) -> Response:
        error = ApiError(404, f"The resource '{request.url.path}' was not found.")
        return self._noted(request, self._user(request), JSONResponse(error.to_document(), 404))

    def _noted(self, request: Request, user: User | None, response: Response) -> Response:
        self._traffic.append(
            Traffic(
                method=request.method,
                path=request.url.path,
                query=request.url.query,
                user=user.username if user else None,
                status=response.status_code,
            )
        )
        return response


def too_many(seconds: int) -> ApiError:
    """Return the 429 of the rate limit. The wording is UNVERIFIED."""
    return ApiError(429, "The rate limit for this user was exceeded. Try again later.", retry_after=seconds)


def _unauthorized(request: Request) -> ApiError:
    if request.headers.get("X-Octopus-ApiKey"):
        return ApiError(401, "The API key you provided was not valid. Please double-check your API key and try again.")
    return ApiError(
        401, "You must be logged in to request this resource. Please provide a valid API key or log in again."
    )


async def _body(request: Request) -> Any:
    data = await request.body()
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        raise ApiError(400, "The request body is not valid JSON.") from None
