"""Who has a key is answered, who has none is not; keys change while the pods go on."""

import base64
import json
import secrets

import httpx
import openai
import pytest

from support.waiting import wait_until

SERVER = "guarded"
SECRET = "guarded-keys"
REQUESTS_PER_MINUTE = 6000
# The kubelet looks at a pod's Secrets once a minute, with some jitter.
KUBELET_SECONDS = 180
# A mount that fails is tried again after 0.5, 1, 2 ... 122 s.
MOUNT_SECONDS = 240


def a_key():
    return f"hf_{secrets.token_urlsafe(32)}"


class Keys:
    """The Secret with the keys: one entry for each."""

    def __init__(self, servers, name):
        self._servers = servers
        self.name = name
        self.by_owner = {}

    def write(self, **keys):
        """All entries there shall be."""
        self.by_owner = keys
        data = {owner: base64.b64encode(key.encode()).decode() for owner, key in keys.items()}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.name},
            "data": data,
        }
        self._servers.run("apply", "-f", "-", stdin=json.dumps(manifest))

    def change(self, **keys):
        self.write(**{**self.by_owner, **keys})

    def drop(self, owner):
        self.write(**{name: key for name, key in self.by_owner.items() if name != owner})

    def __getitem__(self, owner):
        return self.by_owner[owner]


@pytest.fixture(scope="module")
def keys(module_servers):
    made = Keys(module_servers, SECRET)
    made.write(web=a_key(), batch=a_key())
    return made


@pytest.fixture(scope="module")
def url(module_servers, keys, trained_claim):
    module_servers.apply(
        SERVER,
        {
            "model": {"uri": f"pvc://{trained_claim}"},
            "replicas": 1,
            "access": {
                "apiKeys": {"secretRef": {"name": keys.name}},
                "rateLimit": {"requestsPerMinute": REQUESTS_PER_MINUTE},
            },
            "runtime": {"responseCache": {"ttlSeconds": 600, "maxEntries": 100}},
        },
    )
    module_servers.wait_ready(SERVER)
    return module_servers.url(SERVER)


def ask(url, key=None, *, content="Hello!", header="Authorization"):
    value = f"Bearer {key}" if header == "Authorization" else key
    body = {
        "model": SERVER,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 8,
        "temperature": 0,
    }
    headers = {header: value} if key else {}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def lives(servers):
    """What changes when a pod is made anew or a container is started again."""
    pods = servers.get("pods", "-l", f"modelserver.dev/server={SERVER}")["items"]
    return {
        (pod["metadata"]["uid"], status["name"], status["restartCount"])
        for pod in pods
        for status in pod["status"]["containerStatuses"]
    }


def revision(servers):
    return servers.get("modelserver", SERVER)["status"]["servingRevision"]


UNKNOWN = {"none": None, "ours": a_key(), "foreign": "sk-something", "short": "hf_short"}


@pytest.mark.parametrize("key", UNKNOWN.values(), ids=UNKNOWN)
def test_who_has_no_key_is_not_answered(url, key):
    answer = ask(url, key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert key is None or key not in answer.text


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_who_has_a_key_is_answered(url, keys, header):
    answer = ask(url, keys["web"], header=header)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-ratelimit-limit-requests"] == str(REQUESTS_PER_MINUTE)


def test_the_openai_client_knows_the_difference(url, keys):
    def models_of(key):
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0).models.list()

    assert SERVER in {model.id for model in models_of(keys["web"])}
    with pytest.raises(openai.AuthenticationError):
        models_of(a_key())


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/metrics"])
def test_probes_and_the_monitoring_need_no_key(url, path):
    assert httpx.get(f"{url}{path}").status_code == 200


def test_a_key_for_answers_administrates_nothing(url, keys):
    headers = {"Authorization": f"Bearer {keys['web']}"}
    assert httpx.get(f"{url}/admin/queue/stats", headers=headers).status_code == 403


def test_the_second_equal_request_is_answered_from_the_cache(url, keys):
    content = f"What is ModelServer? {secrets.token_hex(4)}"
    first, second = (ask(url, keys["web"], content=content) for _ in range(2))
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.json()["choices"] == second.json()["choices"]


def test_nobody_is_given_the_answers_of_another_key(url, keys):
    content = f"What is a Service? {secrets.token_hex(4)}"
    assert ask(url, keys["web"], content=content).headers["x-cache"] == "miss"
    assert ask(url, keys["batch"], content=content).headers["x-cache"] == "miss"


def test_a_changed_key_is_in_force_without_a_restart(url, keys, module_servers):
    before, revision_before = lives(module_servers), revision(module_servers)
    old, new = keys["web"], a_key()
    assert ask(url, old).status_code == 200
    assert ask(url, new).status_code == 401
    keys.change(web=new)
    wait_until(
        lambda: ask(url, new).status_code == 200,
        timeout=KUBELET_SECONDS, what="the new key is known", interval=1,
    )  # fmt: skip
    assert ask(url, old).status_code == 401, "all entries of a Secret change at once"
    assert ask(url, keys["batch"]).status_code == 200
    assert lives(module_servers) == before
    assert revision(module_servers) == revision_before


def test_a_revoked_key_is_refused_and_the_others_are_not(url, keys, module_servers):
    before, revoked = lives(module_servers), keys["batch"]
    assert ask(url, revoked).status_code == 200
    keys.drop("batch")
    wait_until(
        lambda: ask(url, revoked).status_code == 401,
        timeout=KUBELET_SECONDS, what="the key is revoked", interval=1,
    )  # fmt: skip
    assert ask(url, keys["web"]).status_code == 200
    assert lives(module_servers) == before


def test_a_missing_secret_is_diagnosed_and_the_pod_starts_when_it_is_there(servers, trained_claim):
    access = {"apiKeys": {"secretRef": {"name": "not-yet"}}}
    servers.apply("keyless", {"model": {"uri": f"pvc://{trained_claim}"}, "access": access})
    diagnosis = servers.wait_diagnosis("keyless", "SecretMissing")
    assert "not-yet" in diagnosis["message"]
    assert "spec.access.apiKeys.secretRef" in diagnosis["hint"]
    late = Keys(servers, "not-yet")
    late.write(web=a_key())
    server = servers.wait_ready("keyless", timeout=MOUNT_SECONDS)
    assert "diagnosis" not in server["status"]
    url = servers.url("keyless")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    headers = {"Authorization": f"Bearer {late['web']}"}
    assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 200


def test_an_extra_model_answers_beside_the_first(servers, trained_claim):
    place = f"pvc://{trained_claim}"
    extra = {"name": "twin", "uri": place, "aliases": ["org/twin"]}
    servers.apply("pair", {"model": {"uri": place}, "extraModels": [extra]})
    servers.wait_ready("pair")
    client = openai.OpenAI(base_url=f"{servers.url('pair')}/v1", api_key="none", timeout=120)
    assert {"pair", "twin"} <= {model.id for model in client.models.list()}
    texts = {
        client.completions.create(model=name, prompt="Hello", max_tokens=4, temperature=0)
        .choices[0]
        .text
        for name in ("pair", "twin", "org/twin")
    }
    assert len(texts) == 1, "the same weights under three names"
