"""At the gateway's door: who is not let in wakes nobody, is told nothing, and leaves no trace."""

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.record import Grants, document_of
from modelserver_runtime.gateway.cluster import HoldBounds, ServerKey
from support.gateway_world import CHAT, address, asleep, made, model
from support.web import Upstream, serving

pytestmark = pytest.mark.slow  # a server and sockets for every test

NOW = datetime.now(UTC)
NEVER_MADE = "hf_" + "z" * 43


class Keys:
    """A directory of records, as a mounted Secret."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, name="key", *, expires=None, **grants):
        secret, key = make_key(
            Grants.model_validate(grants), name=name, created=NOW, expires=expires
        )
        (self.folder / name).write_text(json.dumps(document_of(key)))
        return secret

    def remove(self, name):
        (self.folder / name).unlink()


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


@pytest.fixture
async def pod():
    return Upstream("pod")


@pytest.fixture
async def at(pod):
    async with serving(pod) as url:
        yield address(url)


@pytest.fixture
async def guarded(keys):
    """A gateway with keys, in front of one model that sleeps and one that is ready."""
    async with made(access_keys_directory=keys.folder, cluster=True) as world:
        yield world


def with_key(key, **more):
    return {"authorization": f"Bearer {key}", **more}


# -- every route, with every kind of wrong key ---------------------------------------------------

# Everything that is behind the door: the gateway's own, and a model's, whether there is one or not.
ROUTES = [
    ("GET", "/models"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/chat"),
    ("GET", "/v1/models/nobody"),
    ("GET", "/models/chat"),
    ("GET", "/models/chat/status"),
    ("GET", "/models/nobody/status"),
    ("POST", "/models/chat/generate"),
    ("POST", "/models/chat/v1/chat/completions"),
    ("GET", "/models/chat/health"),
    ("GET", "/models/chat/metrics"),
    ("GET", "/models/chat/admin/keys/list"),
    ("POST", "/models/models/chat/predict"),
    ("POST", CHAT),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v2/models/chat/infer"),
    ("GET", "/v2/health/ready"),
    ("GET", "/admin/keys/list"),
    ("POST", "/admin/keys/generate"),
    ("POST", "/nothing/of/the/kind"),
    ("GET", "/livez"),
    ("GET", "/metrics"),
    ("PUT", "/models/chat"),
    ("DELETE", "/v1/models/chat"),
]


def sent(method, path, headers):
    body = {"text": "a"} if path.endswith("/generate") else {"model": "chat"}
    content = None if method in {"GET", "DELETE"} else json.dumps(body)
    return {"method": method, "url": path, "content": content, "headers": headers}


def errors_only(path):
    """Those of the Open Inference Protocol have another shape."""
    return path.startswith("/v2")


@pytest.fixture
async def wall(keys, at):
    """One model that sleeps; the limit of addresses is out of the way."""
    settings = {"access_keys_directory": keys.folder, "client_requests_per_minute": 0}
    async with made(cluster=True, **settings) as world:
        world.follow(asleep(), model("other", ready=(at,)))
        yield world


WRONG = [
    {},
    with_key(NEVER_MADE),
    with_key("hf_short"),
    {"x-api-key": ""},
    with_key("sk-somebody-else"),
    with_key("eyJhbGciOiJub25lIn0.e30."),
    {"authorization": "Basic YTpi"},
    {"authorization": NEVER_MADE},
    {"x-api-key": NEVER_MADE},
    with_key(NEVER_MADE, **{"x-api-key": "hf_" + "y" * 43}),
]


@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
async def test_no_route_is_open_to_a_wrong_key(wall, keys, pod, headers):
    keys.add()
    for method, path in ROUTES:
        answer = await wall.client.request(**sent(method, path, headers))
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        error = answer.json()["error"]
        assert errors_only(path) or error["code"] == "invalid_api_key"
        assert NEVER_MADE not in answer.text
    assert not wall.woken
    assert not wall.holder.rooms
    assert not pod.requests


async def test_a_key_that_has_expired_or_was_revoked_opens_nothing(wall, keys, pod):
    expired = keys.add("old", expires=NOW - timedelta(minutes=1))
    revoked = keys.add("gone")
    assert (await wall.client.get("/models", headers=with_key(revoked))).status_code == 200
    keys.remove("gone")

    async def is_refused():
        answer = await wall.client.get("/models", headers=with_key(revoked))
        return answer.status_code == 401

    await _until(is_refused)
    for key in (expired, revoked):
        for method, path in ROUTES:
            answer = await wall.client.request(**sent(method, path, with_key(key)))
            assert answer.status_code == 401, path
    assert not wall.woken
    assert not pod.requests


@pytest.mark.parametrize("scope", ["metrics", "models"])
async def test_a_key_of_another_scope_wakes_nobody(wall, keys, pod, scope):
    key = keys.add(scopes=[scope])
    for method, path in ROUTES:
        if path in {"/metrics", "/models/chat/metrics"}:
            continue
        answer = await wall.client.request(**sent(method, path, with_key(key)))
        assert answer.status_code == 403, path
        error = answer.json()["error"]
        assert errors_only(path) or error["code"] == "insufficient_permissions"
    assert not wall.woken
    assert not pod.requests


async def test_administration_of_a_model_needs_a_key_for_it(wall, keys):
    key = keys.add(scopes=["inference"])
    answer = await wall.client.get("/models/other/admin/keys/list", headers=with_key(key))
    assert answer.status_code == 403
    assert "admin" in answer.json()["error"]["message"]
    admin = keys.add("admin", scopes=["admin"])

    async def is_let_in():
        answer = await wall.client.get("/models/other/admin/x", headers=with_key(admin))
        return answer.status_code == 200

    await _until(is_let_in)


async def test_only_the_health_needs_no_key(wall):
    assert (await wall.client.get("/health")).status_code == 200


# -- allowed models and namespaces ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("grants", "is_allowed"),
    [
        ({}, True),
        ({"models": ["chat"]}, True),
        ({"models": ["ch*"]}, True),
        ({"models": ["models/chat"]}, True),
        ({"namespaces": ["models"]}, True),
        ({"namespaces": ["models"], "models": ["chat"]}, True),
        ({"models": ["other"]}, False),
        ({"namespaces": ["other"]}, False),
        ({"namespaces": ["other"], "models": ["chat"]}, False),
        ({"namespaces": ["models"], "models": ["other"]}, False),
    ],
)
async def test_only_allowed_models_are_seen_asked_and_woken(wall, keys, grants, is_allowed):
    headers = with_key(keys.add(**grants))
    listed = (await wall.client.get("/v1/models", headers=headers)).json()["data"]
    assert ("chat" in {one["id"] for one in listed}) is is_allowed
    listed = (await wall.client.get("/models", headers=headers)).json()["models"]
    assert ("chat" in {one["name"] for one in listed}) is is_allowed
    for path in ("/v1/models/chat", "/models/chat/status"):
        answer = await wall.client.get(path, headers=headers)
        assert answer.status_code == (200 if is_allowed else 403)
    impatient = headers | {"x-request-timeout": "0.3"}
    for path in (CHAT, "/models/chat/generate", "/models/models/chat/predict"):
        answer = await wall.client.request(**sent("POST", path, impatient))
        assert answer.status_code == (503 if is_allowed else 403), answer.text
    assert bool(wall.woken) is is_allowed


async def test_a_name_that_looks_like_a_namespace_opens_no_other(guarded, keys, pod, at):
    """A served name may hold a slash; what is allowed is where the model is."""
    guarded.follow(model("evil", namespace="evil", names=("team/chat",), ready=(at,)))
    headers = with_key(keys.add(namespaces=["team"]))
    answer = await guarded.client.post(CHAT, json={"model": "team/chat"}, headers=headers)
    assert answer.status_code == 403
    assert "namespaces team" in answer.json()["error"]["message"]
    assert not pod.requests


# -- the port of a server ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def at_port(world):
    async with (
        serving(world.front.at_port(20000)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client


async def test_at_its_port_a_server_without_keys_is_woken_by_whoever_reaches_it(guarded):
    guarded.follow(asleep(hold=HoldBounds(max_seconds=2)))
    async with at_port(guarded) as client:
        answer = await client.post(CHAT, json={}, headers=with_key("EMPTY"))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "hold_timeout"
    assert guarded.woken


async def test_at_its_port_a_server_with_keys_is_woken_for_those_only(guarded, keys):
    headers = with_key(keys.add(models=["chat"]))
    foreign = with_key(keys.add("foreign", models=["other"]))
    guarded.follow(asleep(has_keys=True, hold=HoldBounds(max_seconds=2)))
    async with at_port(guarded) as client:
        for wrong, status in (({}, 401), (with_key(NEVER_MADE), 401), (foreign, 403)):
            answer = await client.post(CHAT, json={}, headers=wrong)
            assert answer.status_code == status
            assert not guarded.woken
        answer = await client.post(CHAT, json={}, headers=headers)
        assert answer.json()["error"]["code"] == "hold_timeout"
    assert guarded.woken


async def test_at_its_port_a_server_that_is_ready_asks_for_its_keys_itself(guarded, pod, at):
    guarded.follow(asleep(has_keys=True, ready=(at,)))
    async with at_port(guarded) as client:
        assert (await client.post(CHAT, json={}, headers=with_key("own"))).status_code == 200
    assert pod.requests[0].headers["authorization"] == "Bearer own"


async def test_a_gateway_without_keys_wakes_no_server_that_has_some():
    async with made() as world:
        world.follow(asleep(has_keys=True))
        answer = await world.client.post(CHAT, json={}, headers=with_key(NEVER_MADE))
        assert answer.status_code == 401
        assert "mount its keys into the gateway" in answer.json()["error"]["message"]
        assert not world.woken


# -- limits --------------------------------------------------------------------------------------


async def test_a_client_has_a_hundred_requests_a_minute_and_is_told_what_is_left(at):
    async with made(cluster=True) as world:
        world.follow(model(ready=(at,)))
        for number in range(100):
            answer = await world.client.get("/models")
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "100"
            assert answer.headers["x-ratelimit-remaining-requests"] == str(99 - number)
        answer = await world.client.post(CHAT, json={"model": "chat"})
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 61
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await world.client.get("/health")).status_code == 200


async def test_each_key_has_its_own_hundred_wherever_it_comes_from(guarded, keys):
    one, other = with_key(keys.add("one")), with_key(keys.add("other"))
    few = with_key(keys.add("few", limits={"requests_per_minute": 2}))
    for _ in range(100):
        assert (await guarded.client.get("/models", headers=one)).status_code == 200
    assert (await guarded.client.get("/models", headers=one)).status_code == 429
    answers = [await guarded.client.get("/models", headers=few) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (await guarded.client.get("/models", headers=other)).status_code == 200


async def test_wrong_keys_use_up_what_their_address_has(guarded, keys):
    right = with_key(keys.add())
    for _ in range(100):
        assert (await guarded.client.get("/x", headers=with_key(NEVER_MADE))).status_code == 401
    assert (await guarded.client.get("/x", headers=with_key(NEVER_MADE))).status_code == 429
    assert (await guarded.client.get("/models", headers=right)).status_code == 200


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"client_requests_per_minute": 0}, None),
        ({"client_requests_per_minute": 7}, "7"),
        ({"address_requests_per_minute": 3}, "3"),
        ({"cluster": False}, None),
    ],
)
async def test_the_limit_is_what_the_settings_say(settings, limit):
    async with made(**{"cluster": True, **settings}) as world:
        answer = await world.client.get("/models")
        assert answer.headers.get("x-ratelimit-limit-requests") == limit


async def test_two_gateways_allow_half_each(at):
    async with made(cluster=True, client_requests_per_minute=11) as world:
        world.replicas = 2
        statuses = [(await world.client.get("/models")).status_code for _ in range(7)]
        assert statuses == [200] * 6 + [429]


async def test_what_a_pod_says_of_its_own_limits_is_what_counts(pod, at):
    async def answer(_, receive, send):
        headers = [(b"x-ratelimit-remaining-requests", b"3")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async with made(cluster=True) as world:
        world.follow(model(ready=(at,)))
        pod.answer = answer
        found = await world.client.post(CHAT, json={"model": "chat"})
        assert found.headers.get_list("x-ratelimit-remaining-requests") == ["3"]


# -- tokens --------------------------------------------------------------------------------------


class Issuer:
    """Answers with its keys, and signs."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.url = ""

    async def __call__(self, scope, _, send):
        algorithm = jwt.get_algorithm_by_name("ES256")
        jwk = algorithm.to_jwk(self.key.public_key(), as_dict=True) | {"kid": "k"}
        content = {"keys": [jwk]}
        if scope["path"].endswith("openid-configuration"):
            content = {"jwks_uri": f"{self.url}/keys"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    def token(self, **claims):
        content = {"iss": self.url, "aud": "ms", "sub": "ann", "exp": time.time() + 600, **claims}
        return jwt.encode(content, self.key, algorithm="ES256", headers={"kid": "k"})


async def test_a_token_opens_what_it_says_and_nothing_else(at, pod):
    issuer = Issuer()
    async with (
        serving(issuer) as issuer.url,
        made(cluster=True, jwt_issuer=issuer.url, jwt_audience="ms") as world,
    ):
        world.follow(asleep(), model("other", "shop", ready=(at,)))
        token = issuer.token(scope="inference", namespaces=["shop"])
        answer = await world.client.post(CHAT, json={"model": "other"}, headers=with_key(token))
        assert answer.status_code == 200
        assert pod.requests[0].headers["authorization"] == f"Bearer {token}"
        refusals = {
            issuer.token(scope="inference", namespaces=["shop"]): 403,
            issuer.token(scope="openid"): 403,
            issuer.token(scope="inference", aud="x"): 401,
            issuer.token(scope="inference", exp=time.time() - 600): 401,
        }
        for refused, status in refusals.items():
            found = await world.client.post(CHAT, json={"model": "chat"}, headers=with_key(refused))
            assert found.status_code == status, found.text
        assert not world.woken


# -- what comes over the wire ----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw(world):
    """A connection of which every byte is the test's own."""
    url = world.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("name", "begun"), [("chat", '{"model": "chat", "x": "'), ("chat", "{"), ("cold", "{")]
)
async def test_a_body_that_does_not_come_is_not_waited_for(at, pod, name, begun):
    """Neither before the model is known, nor while a pod gets it, nor while it is held."""
    async with made(body_timeout_seconds=0.5) as world:
        world.follow(model(ready=(at,)), asleep(key=ServerKey("x", "cold"), names=("cold",)))
        async with raw(world) as (reader, writer):
            head = f"POST /models/{name}/x HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n"
            writer.write((head + begun).encode())
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request_timeout" in answer
        assert b"connection: close" in answer


async def test_a_client_that_sends_in_time_is_not_refused_for_a_slow_pod():
    gate = asyncio.Event()

    async def slow(_, receive, send):
        await gate.wait()
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with (
        serving(slow) as url,
        made(body_timeout_seconds=5, max_body_bytes=64 << 20) as world,
    ):
        world.follow(model(ready=(address(url),)))
        content = b"y" * (16 << 20)
        asking = asyncio.create_task(world.client.post("/models/chat/x", content=content))
        await asyncio.wait({asking}, timeout=6)  # longer than a body may take
        gate.set()
        assert (await asking).status_code == 200


async def _until(look):
    for _ in range(600):
        if await look():
            return
        await asyncio.sleep(0.1)
    pytest.fail("not within a minute")
