"""Who is let in: no route escapes, every refusal has its sentence, and limits have headers."""

import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from modelserver_runtime.access.caller import Caller
from modelserver_runtime.access.principal import ApiKey, Scope
from modelserver_runtime.access.secret import Digest, new_secret
from modelserver_runtime.app.application import (
    create_app,
    create_asgi,
    create_context,
    guarded,
)
from modelserver_runtime.engine.request import Priority
from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.rest.protection import PUBLIC, public_paths, scope_of
from modelserver_runtime.settings import Settings, load_settings
from support.access import KeySet, SecretVolume, a_key_set, bearer, record
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server, settings_for
from support.waiting import wait_until

GENERATE = {"inputs": "abc", "parameters": {"max_new_tokens": 3}}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return a_key_set(tmp_path_factory.mktemp("access") / "keys")


@pytest.fixture(scope="module")
def server(keys: KeySet) -> Iterator[RunningServer]:
    settings = settings_for(
        Path("/none"),
        access_keys_directory=keys.path,
        models=[{"name": "other", "directory": "/none"}],
    )
    with running_server(settings, fake_model(CountingBackend())) as server:
        yield server


@pytest.fixture(scope="module")
def routes() -> set[tuple[str, str]]:
    """Method and path of every route: making the document of all of them takes a second."""
    return every_route(app_of())


def app_of(**values: Any) -> FastAPI:
    return create_app(
        create_context(Settings(**values), clock=time.monotonic, wall_clock=time.time)
    )


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(guarded(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


# -- no route escapes ----------------------------------------------------------------------------


def routes_of(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Those of included routers too; what is neither fails here, so that nothing is passed over."""
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from routes_of(router.routes)
            continue
        assert isinstance(route, Route | Mount)
        for method in getattr(route, "methods", None) or {"GET"}:
            yield method, route.path


def every_route(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path, from the routes themselves and from what the document says."""
    found = set(routes_of(app.routes))
    for path, operations in app.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in operations}
    return {(method, re.sub(r"{(\w+):path}", r"{\1}", path)) for method, path in found}


@pytest.mark.parametrize("is_open", [False, True])
async def test_no_route_is_open_that_is_not_in_the_list(keys, routes, is_open):
    app = app_of(
        access_keys_directory=keys.path,
        access_metrics_public=is_open,
        access_docs_public=is_open,
    )
    assert {"/admin/keys/generate", "/v1/chat/completions", "/openapi.json", "/metrics"} <= {
        path for _, path in routes
    }
    assert len(routes) > 25
    public = public_paths(app.state.context.settings)
    assert public >= PUBLIC
    assert ("/metrics" in public) == ("/docs" in public) == is_open
    async with client_of(app) as client:
        for method, path in sorted(routes):
            response = await client.request(method, path)
            assert (response.status_code != 401) == (path in public), f"{method} {path}"
            if path not in public:
                assert response.headers["www-authenticate"] == 'Bearer realm="modelserver"'


async def test_a_route_that_is_added_later_is_protected_too(keys):
    app = app_of(access_keys_directory=keys.path)
    app.add_api_route("/later", lambda: "secret", methods=["GET", "POST"])
    inner = Starlette(routes=[Route("/inner", lambda _: PlainTextResponse("secret"))])
    app.router.routes.append(Mount("/mounted", inner))
    async with client_of(app) as client:
        for path in ("/later", "/mounted/inner", "/no/such/path", "/livez/", "//livez", "/LIVEZ"):
            assert (await client.get(path)).status_code == 401, path
        assert (await client.get("/later", headers=bearer(keys.user))).text == '"secret"'
        assert (await client.get("/no/such/path", headers=bearer(keys.user))).status_code == 404


async def test_a_websocket_is_closed_before_any_route_sees_it(keys):
    app = app_of(access_keys_directory=keys.path)
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await guarded(app)({"type": "websocket", "path": "/livez", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_body_is_not_read_before_its_sender_is_known(keys):
    context = create_context(
        Settings(access_keys_directory=keys.path), clock=time.monotonic, wall_clock=time.time
    )
    sent = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/generate",
        "headers": [],
        "query_string": b"",
        "client": ("1.2.3.4", 5),
    }
    await create_asgi(context)(scope, receive, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/generate", Scope.INFERENCE),
        ("GET", "/v1/models", Scope.INFERENCE),
        ("POST", "/models/load", Scope.MODELS),
        ("GET", "/models", Scope.INFERENCE),
        ("DELETE", "/models/a", Scope.MODELS),
        ("POST", "/modelsx", Scope.INFERENCE),
        ("POST", "/v2/repository/models/a/load", Scope.MODELS),
        ("GET", "/admin", Scope.ADMIN),
        ("GET", "/admin/queue/stats", Scope.ADMIN),
        ("GET", "/metrics", Scope.METRICS),
    ],
)
def test_a_route_needs_the_scope_of_its_path(method, path, scope):
    assert scope_of(method, path) is scope


# -- refusals ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """`key` is a kind of the key set; `headers` come as they are."""

    says: str
    status: int = 401
    code: str | None = "invalid_api_key"
    param: str | None = None
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    path: str = "/generate"
    body: Any = field(default_factory=lambda: GENERATE)


SHORT, STRANGER = "hf_short", new_secret()
ADMIN = {"key": "admin", "status": 400, "code": None, "path": "/admin/keys/generate"}
FORBIDDEN = {"status": 403, "code": "insufficient_permissions"}
WRONG = {
    "no key": Wrong(says="No API key was sent; send it as Authorization: Bearer hf_... or X-API"),
    "another scheme": Wrong(
        headers=(("authorization", "Basic dTpw"),),
        says="Authorization is not of the form Bearer hf_...",
    ),
    "no scheme": Wrong(
        headers=(("authorization", STRANGER),), says="Authorization is not of the form Bearer"
    ),
    "empty bearer": Wrong(headers=(("authorization", "Bearer"),), says="The API key is empty"),
    "empty header": Wrong(headers=(("x-api-key", ""),), says="The API key is empty"),
    "another server's key": Wrong(
        headers=(("authorization", "Bearer sk-abc"),), says="keys begin with hf_"
    ),
    "half a key": Wrong(
        headers=(("x-api-key", SHORT),), says="keys have 46 characters, and this one has 8"
    ),
    "a key with a space in it": Wrong(
        headers=(("x-api-key", "hf_" + "a" * 20 + " " + "b" * 22),),
        says="it holds characters other than letters, digits, - and _",
    ),
    "unknown key": Wrong(
        headers=(("authorization", f"Bearer {STRANGER}"),),
        says=f"The API key {STRANGER[:8]}... is not known here; it may have been revoked",
    ),
    "two keys": Wrong(
        headers=(("authorization", f"Bearer {STRANGER}"), ("x-api-key", new_secret())),
        says="Several different API keys were sent; send one",
    ),
    "expired key": Wrong(
        key="expired", says="expired at 2020-01-31T00:00:00Z; ask for a new one"
    ),
    "metrics key for inference": Wrong(
        key="watcher", **FORBIDDEN, says="POST /generate needs an API key with the scope inference"
    ),
    "admin key for inference": Wrong(key="admin", **FORBIDDEN, says="'admin' ("),
    "inference key for administration": Wrong(
        key="user", **FORBIDDEN, method="GET", path="/admin/keys/list", body=None,
        says="GET /admin/keys/list needs an API key with the scope admin; 'user' (",
    ),
    "inference key for loading": Wrong(
        key="user", **FORBIDDEN, path="/models/load", body={"model": "other"},
        says="needs an API key with the scope models",
    ),
    "key of another model": Wrong(
        key="other_model", **FORBIDDEN, param="model",
        says="may not use the model 'tiny'; it may use other, more-*",
    ),
    "key of another model, by alias": Wrong(
        key="other_model", **FORBIDDEN, param="model", path="/v1/completions",
        body={"model": "also-tiny", "prompt": "abc"}, says="may not use the model 'tiny'",
    ),
    "key of another model, its description": Wrong(
        key="other_model", **FORBIDDEN, param="model", method="GET", path="/v1/models/tiny",
        body=None, says="may not use the model 'tiny'",
    ),
    "unknown route with a key": Wrong(
        key="user", status=404, code="not_found", path="/none", says="There is no route /none"
    ),
    "key without a name": Wrong(**ADMIN, param="name", body={}, says="name is missing"),
    "key with an unknown scope": Wrong(
        **ADMIN, param="scopes.0", body={"name": "a", "scopes": ["root"]}, says="scopes.0: "
    ),
    "key without a scope": Wrong(
        **ADMIN, param="scopes", body={"name": "a", "scopes": []}, says="scopes: "
    ),
    "key of the past": Wrong(
        **ADMIN, param="expires", body={"name": "a", "expires": "2020-01-01T00:00:00Z"},
        says="expires is in the past; the key could never be used",
    ),
    "key of two ends": Wrong(
        **ADMIN, param="expires",
        body={"name": "a", "expires": "2090-01-01T00:00:00Z", "expires_in_seconds": 5},
        says="Give expires or expires_in_seconds, not both",
    ),
    "key that ends at once": Wrong(
        **ADMIN, param="expires_in_seconds", body={"name": "a", "expires_in_seconds": 0},
        says="expires_in_seconds: ",
    ),
    "key with a limit of nothing": Wrong(
        **ADMIN, param="limits.tokens_per_minute",
        body={"name": "a", "limits": {"tokens_per_minute": 0}}, says="limits.tokens_per_minute: ",
    ),
    "key with an unknown field": Wrong(
        **ADMIN, param="colour", body={"name": "a", "colour": "red"}, says="colour: "
    ),
    "revoking nothing": Wrong(
        key="admin", status=404, code="not_found", param="id", path="/admin/keys/revoke",
        body={"id": "key_0"}, says="There is no key 'key_0'; GET /admin/keys/list has the ids",
    ),
    "deleting nothing": Wrong(
        key="admin", status=404, code="not_found", param="id", method="DELETE",
        path="/admin/keys/key_0", body=None, says="There is no key 'key_0'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_refusal_says_why(server, keys, wrong):
    headers = [*wrong.headers, *(bearer(getattr(keys, wrong.key)) if wrong.key else {}).items()]
    response = server.client.request(wrong.method, wrong.path, json=wrong.body, headers=headers)
    assert response.status_code == wrong.status, response.text
    error = response.json()["error"]
    assert wrong.says in error["message"]
    assert (error["code"], error["param"]) == (wrong.code, wrong.param)
    assert ("www-authenticate" in response.headers) == (wrong.status == 401)
    assert response.headers["x-request-id"]
    for secret in (keys.admin, keys.user, keys.expired, keys.other_model, STRANGER):
        assert secret not in response.text


def test_a_mounted_key_is_revoked_in_its_secret_only(server, keys):
    listed = server.client.get("/admin/keys/list", headers=bearer(keys.admin)).json()
    key = next(key for key in listed["keys"] if key["name"] == "user")
    response = server.client.delete(f"/admin/keys/{key['id']}", headers=bearer(keys.admin))
    assert response.status_code == 409
    assert "comes from the mounted Secret; remove it there" in response.json()["error"]["message"]


@pytest.mark.parametrize("headers", [bearer, lambda key: {"x-api-key": key}])
def test_a_key_is_taken_from_both_headers(server, keys, headers):
    assert server.client.post("/generate", json=GENERATE, headers=headers(keys.user)).is_success


def test_a_caller_sees_the_models_it_may_use(server, keys):
    def seen(key: str) -> set[str]:
        answer = server.client.get("/v1/models", headers=bearer(key))
        return {model["id"] for model in answer.json()["data"]}

    assert seen(keys.user) == {"tiny", "also-tiny", "other"}
    assert seen(keys.other_model) == {"other"}


async def test_no_route_tells_or_does_anything_with_a_model_that_is_not_allowed(tmp_path, routes):
    key, content = record(models=["other"], scopes=["inference", "models", "metrics"])
    SecretVolume(tmp_path / "keys").write({"key": content})
    app = app_of(
        access_keys_directory=tmp_path / "keys",
        served_name="tiny",
        models=[{"name": "other", "directory": "/none"}],
    )
    bodies = {"model": "tiny", "inputs": "a", "prompt": "a", "input": "a", "text_input": "a"}
    asked = set()
    async with client_of(app) as client:
        for method, path in sorted(routes):
            if "/admin/" in path or not ("{name}" in path or "/models" in path):
                continue
            place = path.replace("{name}", "tiny").replace("{version}", "1")
            response = await client.request(method, place, json=bodies, headers=bearer(key))
            asked.add(path)
            if response.status_code == 200:
                assert "tiny" not in response.text, f"{method} {path}"
            elif "{" in path:
                # A body may be wrong before its model is looked at; it says nothing then.
                refusals = {400, 403} if method == "POST" else {403}
                assert response.status_code in refusals, f"{method} {path}: {response.text}"
    assert {"/v1/models", "/v1/models/{name}", "/v2/models/{name}/infer", "/models"} <= asked


# -- making and revoking -------------------------------------------------------------------------


def test_a_key_is_made_used_and_revoked(server, keys):
    body = {
        "name": "new",
        "models": ["tin*"],
        "expires_in_seconds": 60,
        "highest_priority": "low",
        "limits": {"requests_per_minute": 9},
    }
    made = server.client.post("/admin/keys/generate", json=body, headers=bearer(keys.admin)).json()
    assert made["kept_in"] == "memory"
    assert "ends with it: set MODELSERVER_REDIS_URL" in made["note"]
    key = bearer(made["key"])
    answer = server.client.post("/generate", json=GENERATE, headers=key)
    assert answer.is_success
    assert answer.headers["x-ratelimit-remaining-requests"] == "8"
    listed = server.client.get("/admin/keys/list", headers=bearer(keys.admin))
    described = next(one for one in listed.json()["keys"] if one["id"] == made["id"])
    assert made["key"] not in listed.text
    assert (described["prefix"], described["source"]) == (made["key"][:8], "generated")
    usage = server.client.get("/admin/keys/usage", headers=bearer(keys.admin)).json()
    used = next(one for one in usage["keys"] if one["id"] == made["id"])
    assert (used["requests"], used["prompt_tokens"], used["completion_tokens"]) == (1, 3, 3)
    metric = f'modelserver_key_tokens_total{{key="{made["id"]}",kind="prompt"}} 3.0'
    assert metric in server.client.get("/metrics").text
    revoked = server.client.post(
        "/admin/keys/revoke", json={"id": made["id"]}, headers=bearer(keys.admin)
    )
    assert revoked.json() == {"id": made["id"], "revoked": True}
    assert server.client.post("/generate", json=GENERATE, headers=key).status_code == 401
    assert made["id"] not in server.client.get("/metrics").text


def test_errors_and_streams_are_counted(server, keys):
    def used() -> dict[str, Any]:
        report = server.client.get("/admin/keys/usage", headers=bearer(keys.admin)).json()
        return next(one for one in report["keys"] if one["name"] == "user")

    before = used()
    streamed = server.client.post(
        "/generate", json={**GENERATE, "stream": True}, headers=bearer(keys.user)
    )
    assert streamed.text.endswith("data: [DONE]\n\n")
    server.client.post("/generate", json={}, headers=bearer(keys.user))
    wait_until(lambda: used()["requests"] == before["requests"] + 2, timeout=10, what="counted")
    after = used()
    assert after["errors"] == before["errors"] + 1
    assert after["completion_tokens"] - before["completion_tokens"] in {0, 3}, "0: from the cache"


def test_keys_of_a_state_directory_outlive_the_server(tmp_path, keys):
    settings = settings_for(
        Path("/none"), access_keys_directory=keys.path, access_state_directory=tmp_path / "state"
    )
    with running_server(settings, fake_model(CountingBackend())) as server:
        made = server.client.post(
            "/admin/keys/generate", json={"name": "a"}, headers=bearer(keys.admin)
        ).json()
        assert made["kept_in"] == "file"
    with running_server(settings, fake_model(CountingBackend())) as server:
        answer = server.client.post("/generate", json=GENERATE, headers=bearer(made["key"]))
        assert answer.is_success


# -- without keys --------------------------------------------------------------------------------


async def test_without_keys_all_is_open_but_administration():
    async with client_of(app_of()) as client:
        assert (await client.get("/docs")).status_code == 200
        response = await client.get("/admin/keys/list", headers=bearer(new_secret()))
    assert response.status_code == 403
    assert "this server has no keys; make one with" in response.json()["error"]["message"]
    assert "MODELSERVER_ACCESS_KEYS_DIRECTORY" in response.json()["error"]["message"]


async def test_without_an_admin_key_the_refusal_says_how_to_get_one(tmp_path):
    key = new_secret()
    (tmp_path / "user").write_text(key)
    async with client_of(app_of(access_keys_directory=tmp_path)) as client:
        response = await client.get("/admin/keys/list", headers=bearer(key))
    assert response.status_code == 403
    assert "no key has admin: make one with" in response.json()["error"]["message"]


async def test_a_server_whose_keys_are_all_gone_lets_nobody_in(tmp_path):
    async with client_of(app_of(access_keys_directory=tmp_path / "none")) as client:
        assert (await client.get("/v1/models")).status_code == 401


def test_access_without_a_place_for_a_key_is_refused_at_the_start():
    with pytest.raises(InvalidConfiguration, match="no place where a first key could be"):
        load_settings(access_enabled=True)


def test_a_proxy_that_is_no_network_is_refused():
    with pytest.raises(InvalidConfiguration, match="is no address and no network"):
        load_settings(trusted_proxies=["proxy.example"])


# -- limits --------------------------------------------------------------------------------------


def test_over_its_limit_a_key_is_told_when_to_come_back(server, keys):
    answers = [
        server.client.post("/generate", json=GENERATE, headers=bearer(keys.limited))
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert remaining == ["1", "0", "0"]
    refused = answers[-1]
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "has used its 2 requests per minute; try again in" in error["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert 0 < int(refused.headers["retry-after-ms"]) <= 61_000
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["ratelimit-policy"] == "2;w=60"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["ratelimit-reset"]) <= 61


def test_an_address_is_limited_with_wrong_keys_too_and_behind_its_proxy(keys):
    settings = settings_for(
        Path("/none"),
        access_keys_directory=keys.path,
        address_requests_per_minute=3,
        trusted_proxies=["127.0.0.0/8"],
    )
    with running_server(settings, fake_model(CountingBackend())) as server:

        def ask(key: str, address: str) -> int:
            headers = {**bearer(key), "x-forwarded-for": f"6.6.6.6, {address}"}
            return server.client.post("/generate", json=GENERATE, headers=headers).status_code

        guesses = [ask(new_secret(), "1.2.3.4") for _ in range(5)]
        assert guesses == [401, 401, 401, 429, 429]
        assert ask(keys.user, "1.2.3.4") == 429, "a right guess is not told from a wrong one"
        assert ask(keys.user, "1.2.3.5") == 200
        assert server.client.get("/livez").status_code == 200


def test_tokens_are_reserved_and_then_counted_as_they_were(keys):
    settings = settings_for(
        Path("/none"),
        access_keys_directory=keys.path,
        key_tokens_per_minute=40,
        cache_max_entries=0,
    )
    with running_server(settings, fake_model(CountingBackend())) as server:
        remaining = []
        for _ in range(5):
            answer = server.client.post("/generate", json=GENERATE, headers=bearer(keys.user))
            assert answer.status_code == 200
            remaining.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
        # The body is reserved as 13 tokens; 6 are used each time.
        assert [40 - 13 - 6 * count for count in range(5)] == remaining
        refused = server.client.post("/generate", json=GENERATE, headers=bearer(keys.user))
        assert refused.status_code == 429
        assert "has used its 40 tokens per minute" in refused.json()["error"]["message"]
        assert "x-ratelimit-limit-requests" not in refused.headers


def test_a_key_has_so_many_requests_at_a_time(keys):
    backend = CountingBackend()
    settings = settings_for(
        Path("/none"), access_keys_directory=keys.path, key_concurrent_requests=1
    )
    with running_server(settings, fake_model(backend)) as server:
        backend.may_step.clear()
        answers: list[httpx.Response] = []
        waiting = threading.Thread(
            target=lambda: answers.append(
                server.client.post("/generate", json=GENERATE, headers=bearer(keys.user))
            )
        )
        waiting.start()
        in_flight = server.context.primary.telemetry.in_flight
        wait_until(lambda: in_flight._value.get() == 1, timeout=10, what="begun", interval=0.01)
        second = httpx.post(f"{server.url}/generate", json=GENERATE, headers=bearer(keys.user))
        backend.may_step.set()
        waiting.join(20)
        assert answers[0].status_code == 200
        assert second.status_code == 429
        assert "has 1 requests that are being answered" in second.json()["error"]["message"]

        def again() -> bool:
            answer = server.client.post("/generate", json=GENERATE, headers=bearer(keys.user))
            return answer.is_success

        wait_until(again, timeout=10, what="the place is free again", interval=0.01)


# -- callers -------------------------------------------------------------------------------------


def test_a_caller_gets_no_higher_priority_than_its_key_has():
    key = ApiKey(id="a", name="a", digest=Digest(""), highest_priority=Priority.LOW)
    assert Caller(key).capped(Priority.CRITICAL) is Priority.LOW
    assert Caller().capped(Priority.CRITICAL) is Priority.CRITICAL
    assert (Caller(key).tenant, Caller().tenant) == ("a", "")
