"""The page's routes: who sees what, HTML that is as it should be, and keys for administrators."""

import contextlib
import json

import httpx
import pytest

from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.record import Grants
from modelserver_runtime.gateway.cluster import Address
from support.gateway_page import NOW, PageWorld, a_server, played_servers
from support.markup import Markup

POD = Address("127.0.0.1", 9)
ROOT = {"scopes": ["inference", "admin"]}


@contextlib.asynccontextmanager
async def made(*items, **settings):
    world = PageWorld(**settings)
    items = items or played_servers()
    world.follow(list(items), {"chat": (POD, True), "embeddings": (POD, True)})
    transport = httpx.ASGITransport(world.front)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield world, client
    world.holder.close()


def closed(tmp_path):
    """Settings of a gateway that needs keys."""
    return {"access_enabled": True, "access_state_directory": tmp_path}


async def a_key(world, **grants):
    secret, key = make_key(Grants.model_validate(grants), name="test", created=NOW)
    await world.guard.keyring.add(key)
    return {"authorization": f"Bearer {secret}"}


# -- what is shown -------------------------------------------------------------------------------


async def test_the_page_has_every_model_and_what_is_known_of_it():
    async with made() as (_, client):
        page = Markup((await client.get("/")).text)
    text = " ".join(page.text.split())
    for said in (
        "qwen2.5-7b-instruct",
        "Rolling d4e5f6a7 out",
        "25 % of the requests, 24.8 % observed",
        "3 of 1204 requests failed against 11 of 3630",
        "KEDA wants 3 pods",
        "Fetching the model's files, 62 %, about 41 s left",
        "The container was killed because it needed more than its 16Gi",
        "Set resources.memory to 28Gi or more",
        "A request wakes it, in about 9 s; asleep for 48 min",
        "Everything is as the spec asks.",
    ):
        assert said in text
    kinds = [
        one.attributes["data-kind"]
        for one in page.elements
        if one.tag == "li" and "data-kind" in one.attributes
    ]
    assert kinds == ["ready", "ready", "starting", "failed", "asleep"]


@pytest.mark.parametrize("needs_keys", [False, True])
async def test_its_html_is_as_it_should_be(tmp_path, needs_keys):
    async with made(**closed(tmp_path) if needs_keys else {}) as (_, client):
        answer = await client.get("/")
    page = Markup(answer.text)
    assert page.mistakes() == []
    assert page.tags("html") == [{"lang": "en"}]
    assert [len(page.tags(tag)) for tag in ("main", "h1", "title")] == [1, 1, 1]
    assert "width=device-width" in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_nothing_but_its_own_files_may_run_in_it():
    async with made() as (_, client):
        answer = await client.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        page = Markup(answer.text)
        named = [one["src"] for one in page.tags("script") + page.tags("img")]
        named += [one["href"] for one in page.tags("link")]
        assert all(one.startswith("page/") for one in named)
        for one in set(named):
            assert (await client.get(f"/{one}")).status_code == 200


async def test_its_files_are_asked_for_again_and_not_sent_again():
    async with made() as (_, client):
        first = await client.get("/page/page.js")
        assert first.headers["content-type"].startswith("text/javascript")
        assert first.headers["cache-control"] == "no-cache"
        tag = {"if-none-match": first.headers["etag"]}
        second = await client.get("/page/page.js", headers=tag)
        assert (second.status_code, second.content) == (304, b"")
        other = await client.get("/page/page.js", headers={"if-none-match": '"older"'})
        assert other.content == first.content


HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\' style="x" {{7*7}}'


async def test_whatever_the_cluster_says_is_text():
    condition = {"type": HOSTILE, "status": HOSTILE, "reason": HOSTILE, "message": HOSTILE}
    hostile = a_server(
        "chat",
        spec={"model": {"servedName": HOSTILE, "aliases": [HOSTILE + "2"], "task": "Auto"}},
        conditions=[condition],
        diagnosis={"code": HOSTILE, "message": HOSTILE, "hint": HOSTILE},
        rollout={
            "phase": HOSTILE,
            "from": HOSTILE,
            "to": HOSTILE,
            "strategy": HOSTILE,
            "message": HOSTILE,
            "gates": [{"name": HOSTILE, "outcome": HOSTILE, "message": HOSTILE}],
            "comparison": [{"revision": HOSTILE, "errorsPercent": HOSTILE}],
            "holding": {"message": HOSTILE},
        },
        scaling={"engine": HOSTILE, "reason": HOSTILE, "history": [{"reason": HOSTILE}]},
        experiments=[{"name": HOSTILE, "phase": HOSTILE, "answered": {"errorsPercent": HOSTILE}}],
    )
    async with made(hostile) as (_, client):
        page = Markup((await client.get("/")).text)
    assert page.mistakes() == []
    assert len(page.tags("script")) == 1
    assert not [one for one in page.tags("img") if one.get("src") == "x"]
    assert page.text.count("{{7*7}}") > 15
    assert HOSTILE in page.having("value")


@pytest.mark.parametrize(
    "status",
    [
        {"rollout": {"phase": "Analyzing"}},
        {"rollout": {"phase": "Succeeded", "to": "new"}, "experiments": [{}]},
        {"scaling": {"engine": "HPA"}, "conditions": [{}]},
        {"diagnosis": {"code": "X"}, "artifact": {"phase": "Fetching"}},
        {"rollout": "no object", "scaling": [], "conditions": "none", "experiments": {}},
    ],
)
async def test_what_an_operator_has_not_written_is_not_shown(status):
    async with made(a_server("chat", **status)) as (_, client):
        answer = await client.get("/page/overview")
    assert answer.status_code == 200
    assert Markup(answer.text).problems == []


async def test_a_cluster_that_cannot_be_followed_is_told():
    async with made() as (world, client):
        world.problems = ("modelservers is forbidden",)
        assert "modelservers is forbidden" in (await client.get("/page/overview")).text


async def test_the_overview_is_filtered_as_the_query_says():
    async with made() as (_, client):
        page = Markup((await client.get("/page/overview?state=failed&q=research")).text)
    assert "mistral-small" in page.having("data-name")
    assert len(page.having("data-name")) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/page/nothing"),
        ("POST", "/page/overview"),
        ("PUT", "/page/page.js"),
    ],
)
async def test_what_the_page_does_not_have_is_not_found(method, path):
    async with made() as (_, client):
        answer = await client.request(method, path)
    assert answer.status_code == 404


async def test_only_reading_the_root_is_the_page():
    """Any other request there is a model's, as everywhere."""
    async with made() as (_, client):
        head = await client.head("/")
        assert (head.status_code, head.content) == (200, b"")
        answer = await client.post("/", json={"model": "nobody"})
        assert answer.json()["error"]["code"] == "model_not_found"


# -- who sees it ---------------------------------------------------------------------------------


async def test_without_a_key_there_is_only_the_field_for_one(tmp_path):
    async with made(**closed(tmp_path)) as (_, client):
        page = await client.get("/")
        assert page.status_code == 200
        for item in played_servers():
            metadata = item["metadata"]
            assert f"{metadata['namespace']}/{metadata['name']}" not in page.text
            assert item["spec"]["model"]["servedName"] not in page.text
        for path in ("/page/overview", "/page/keys", "/page/keys/x/revoke"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/page/keys", "/page/keys/x/revoke"):
            assert (await client.post(path, json={"name": "mine"})).status_code == 401


async def test_a_key_sees_the_models_that_it_may_use(tmp_path):
    async with made(**closed(tmp_path)) as (world, client):
        some = await a_key(world, namespaces=["research"])
        seen = await client.get("/page/overview", headers=some)
        assert set(Markup(seen.text).having("data-name")) == {"mistral-small", "sentiment"}
        assert "qwen" not in seen.text
        one = await a_key(world, models=["bge-*"])
        seen = await client.get("/page/overview", headers=one)
        assert set(Markup(seen.text).having("data-name")) == {"bge-m3"}


async def test_a_key_that_may_not_ask_models_sees_none(tmp_path):
    async with made(**closed(tmp_path)) as (world, client):
        headers = await a_key(world, scopes=["metrics"])
        assert (await client.get("/page/overview", headers=headers)).status_code == 403


async def test_looking_is_not_counted_and_guessing_is(tmp_path):
    async with made(**closed(tmp_path), address_requests_per_minute=3) as (world, client):
        key = await a_key(world)
        for _ in range(9):
            assert (await client.get("/page/overview", headers=key)).status_code == 200
        wrong = {"authorization": "Bearer hf_" + "x" * 43}
        statuses = [
            (await client.get("/page/overview", headers=wrong)).status_code for _ in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]


# -- keys ----------------------------------------------------------------------------------------


async def test_only_administrators_see_and_change_keys(tmp_path):
    async with made(**closed(tmp_path)) as (world, client):
        headers = await a_key(world)
        assert (await client.get("/page/keys", headers=headers)).status_code == 403
        answer = await client.post("/page/keys", headers=headers, json={"name": "mine"})
        assert answer.status_code == 403
        assert 'data-admin="false"' in (await client.get("/page/overview", headers=headers)).text
        assert len(await world.guard.keyring.all()) == 1


async def test_without_keys_nobody_administers():
    async with made() as (_, client):
        assert (await client.get("/page/keys")).status_code == 403


async def test_a_key_is_made_used_and_revoked(tmp_path):
    async with made(**closed(tmp_path)) as (world, client):
        root = await a_key(world, **ROOT)
        wanted = {
            "name": 'team "<b>"',
            "models": ["bge-*"],
            "limits": {"requests_per_minute": 60},
            "expires_in_seconds": 86_400,
        }
        made_page = Markup((await client.post("/page/keys", headers=root, json=wanted)).text)
        assert made_page.problems == []
        assert "60 requests/min" in made_page.text
        assert "in 24 h" in made_page.text
        secret = made_page.having("readonly")[""].attributes["value"]
        headers = {"authorization": f"Bearer {secret}"}
        assert (await client.get("/page/overview", headers=headers)).status_code == 200
        key_id = made_page.having("data-name")['team "<b>"'].attributes["data-id"]
        # It is told once.
        assert secret not in (await client.get("/page/keys", headers=root)).text
        answer = await client.post(f"/page/keys/{key_id}/revoke", headers=root)
        assert key_id not in Markup(answer.text).having("data-id")
        assert (await client.get("/page/overview", headers=headers)).status_code == 401
        again = await client.post(f"/page/keys/{key_id}/revoke", headers=root)
        assert again.status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no JSON", "JSON"),
        (b'{"name": ""}', "name"),
        (b'{"scopes": ["inference"]}', "name"),
        (b'{"name": "x", "scopes": ["everything"]}', "scopes"),
        (b'{"name": "x", "scopes": []}', "scopes"),
        (b'{"name": "x", "limits": {"requests_per_minute": 0}}', "requests_per_minute"),
        (b'{"name": "x", "more": 1}', "more"),
    ],
)
async def test_a_key_that_cannot_be_made_says_why(tmp_path, body, words):
    async with made(**closed(tmp_path)) as (world, client):
        root = await a_key(world, **ROOT)
        answer = await client.post("/page/keys", headers=root, content=body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]


async def test_a_body_that_is_too_large_makes_no_key(tmp_path):
    async with made(**closed(tmp_path)) as (world, client):
        root = await a_key(world, **ROOT)
        body = json.dumps({"name": "x", "models": ["y" * 100] * 1000}).encode()
        assert (await client.post("/page/keys", headers=root, content=body)).status_code == 413


async def test_a_key_of_a_secret_is_shown_and_not_revoked(tmp_path):
    secret, key = make_key(Grants.model_validate(ROOT), name="mounted", created=NOW)
    (tmp_path / "mounted").write_text(secret)
    async with made(access_keys_directory=tmp_path) as (_, client):
        (tmp_path / "mounted").write_text(json.dumps({"key": secret, **ROOT}))
        headers = {"authorization": f"Bearer {secret}"}
        page = await client.get("/page/keys", headers=headers)
        assert "in the Secret" in page.text
        assert 'class="quiet revoke"' not in page.text
        answer = await client.post(f"/page/keys/{key.id}/revoke", headers=headers)
        assert answer.status_code == 409
