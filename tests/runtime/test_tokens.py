"""Tokens of an issuer: which are accepted, what they allow; how often its keys are asked for."""

import asyncio
import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from modelserver_runtime.access.issuer_keys import (
    FRESH_SECONDS,
    PAUSE_SECONDS,
    IssuerKeys,
    IssuerSilent,
    fetch_json,
)
from modelserver_runtime.access.keyring import Keyring
from modelserver_runtime.access.principal import Scope, Source
from modelserver_runtime.access.stores import MemoryKeys
from modelserver_runtime.access.tokens import Claims, Tokens
from modelserver_runtime.errors import KeysUnavailable, NotAuthenticated
from support.web import serving

ISSUER = "https://issuer.example"
AUDIENCE = "modelserver"
ES256 = jwt.get_algorithm_by_name("ES256")
RS256 = jwt.get_algorithm_by_name("RS256")


class Issuer:
    """One that signs; its description and its keys are answered from here."""

    def __init__(self):
        self.keys = {"a": ec.generate_private_key(ec.SECP256R1())}
        self.now = 1000.0
        self.asked = []
        self.is_silent = False
        self.more = []

    def document(self):
        jwks = [
            ES256.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return {"keys": [*jwks, *self.more]}

    async def fetch(self, url):
        self.asked.append(url)
        if self.is_silent:
            raise IssuerSilent(f"{url} cannot be read: refused")
        if url.endswith("openid-configuration"):
            return {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        return self.document()

    def signed(self, kid="a", key=None, algorithm="ES256", headers=None, **claims):
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 600}
        content |= {"scope": "openid inference"} | claims
        content = {name: value for name, value in content.items() if value is not None}
        headers = {"kid": kid} | (headers or {})
        headers = {name: value for name, value in headers.items() if value is not None}
        return jwt.encode(content, key or self.keys[kid], algorithm=algorithm, headers=headers)


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def tokens(issuer):
    keys = IssuerKeys(ISSUER, "", clock=lambda: issuer.now, fetch=issuer.fetch)
    return Tokens(ISSUER, AUDIENCE, Claims(), keys)


async def test_a_token_says_who_it_is_and_what_is_allowed(issuer, tokens):
    claims = {"scope": "openid models inference", "models": ["qwen-*"], "namespaces": "a b"}
    key = await tokens.key_of(issuer.signed(**claims))
    assert key.name == "ann"
    assert key.scopes == {Scope.MODELS, Scope.INFERENCE}
    assert key.source is Source.TOKEN
    assert key.may_use(["qwen-7b"], "a")
    assert key.may_use(["qwen-7b"], "b")
    assert not key.may_use(["llama"], "a")
    assert not key.may_use(["qwen-7b"], "c")
    assert not key.may_use(["qwen-7b"])  # at a server that does not know where it is


async def test_without_claims_every_model_is_allowed_and_no_scope(issuer, tokens):
    key = await tokens.key_of(issuer.signed(scope=None))
    assert key.scopes == frozenset()
    assert key.may_use(["anything"], "anywhere")


async def test_a_new_token_of_the_same_subject_begins_no_new_limits(issuer, tokens):
    first = await tokens.key_of(issuer.signed())
    second = await tokens.key_of(issuer.signed(exp=time.time() + 900))
    other = await tokens.key_of(issuer.signed(sub="bob"))
    assert first.id == second.id != other.id


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": time.time() - 3600}, "expired"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"iss": f"{ISSUER}/"}, "another issuer"),
        ({"aud": "shop"}, "somebody else"),
        ({"aud": None}, "no aud"),
        ({"exp": None}, "no exp"),
        ({"sub": None}, "no sub"),
        ({"iss": None}, "no iss"),
        ({"key": OTHER_KEY}, "signature"),
        ({"sub": ""}, "sub must have"),
        ({"sub": "a\nb"}, "sub must have"),
        ({"models": []}, "models must be a list"),
        ({"models": ""}, "models must be a list"),
        ({"models": {"a": 1}}, "models must be a list"),
        ({"namespaces": [1]}, "namespaces must be a list"),
        ({"scope": 7}, "scope must be a list"),
        ({"headers": {"kid": "nobody"}}, "no key with its kid"),
        ({"headers": {"kid": None}}, "kid"),
    ],
)
async def test_a_wrong_token_is_refused_with_a_sentence(issuer, tokens, claims, words):
    with pytest.raises(NotAuthenticated, match=words):
        await tokens.key_of(issuer.signed(**claims))


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def test_a_token_that_nobody_signed_is_refused(issuer, tokens):
    payload = issuer.signed().split(".")[1]
    for name in ("none", "None", "NONE", ""):
        header = encoded({"alg": name, "typ": "JWT", "kid": "a"})
        for signature in ("", issuer.signed().split(".")[2]):
            with pytest.raises(NotAuthenticated):
                await tokens.key_of(f"{header}.{payload}.{signature}")


async def test_the_public_key_is_no_shared_secret(issuer, tokens):
    """The oldest trick: HS256, with what everybody may know as the secret."""
    public = (
        issuer.keys["a"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    head = f"{encoded({'alg': 'HS256', 'kid': 'a'})}.{issuer.signed().split('.')[1]}"
    signer = jwt.get_algorithm_by_name("HS256")
    signature = base64.urlsafe_b64encode(signer.sign(head.encode(), public)).rstrip(b"=").decode()
    with pytest.raises(NotAuthenticated, match="alg"):
        await tokens.key_of(f"{head}.{signature}")


async def test_an_issuer_s_shared_secret_is_no_key(issuer, tokens):
    secret = b"0123456789abcdef0123456789abcdef"
    oct_key = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    issuer.more = [{"kty": "oct", "k": oct_key, "kid": "s", "alg": "HS256"}]
    with pytest.raises(NotAuthenticated, match="no key with its kid"):
        await tokens.key_of(issuer.signed(kid="s", key=secret, algorithm="HS256"))


async def test_a_key_of_another_kind_checks_no_other_algorithm(issuer, tokens):
    strong = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer.more = [RS256.to_jwk(strong.public_key(), as_dict=True) | {"kid": "r"}]
    assert await tokens.key_of(issuer.signed(kid="r", key=strong, algorithm="RS256"))
    with pytest.raises(NotAuthenticated):
        await tokens.key_of(issuer.signed(kid="r", key=issuer.keys["a"]))


@pytest.mark.parametrize("token", ["a.b.c", "..", "e30.e30.e30", "x" * 20_000 + ".a.b"])
async def test_what_is_no_token_is_refused(tokens, issuer, token):
    with pytest.raises(NotAuthenticated):
        await tokens.key_of(token)
    assert not issuer.asked


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_token_that_was_changed_is_refused(issuer, tokens, place):
    parts = issuer.signed().split(".")
    middle = len(parts[place]) // 2
    flipped = "A" if parts[place][middle] != "A" else "B"
    parts[place] = parts[place][:middle] + flipped + parts[place][middle + 1 :]
    with pytest.raises(NotAuthenticated):
        await tokens.key_of(".".join(parts))


# -- the issuer's keys -----------------------------------------------------------------------------


async def test_keys_are_asked_for_once_and_then_known(issuer, tokens):
    await asyncio.gather(*(tokens.key_of(issuer.signed()) for _ in range(20)))
    assert issuer.asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]


async def test_a_new_key_is_found_at_its_first_use_but_at_most_once_a_minute(issuer, tokens):
    await tokens.key_of(issuer.signed())
    issuer.keys["b"] = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(NotAuthenticated):
        await tokens.key_of(issuer.signed(kid="b"))
    assert len(issuer.asked) == 2  # within the minute nobody is asked again
    issuer.now += PAUSE_SECONDS
    assert await tokens.key_of(issuer.signed(kid="b"))
    for _ in range(50):
        with pytest.raises(NotAuthenticated):
            await tokens.key_of(issuer.signed(kid="a", headers={"kid": "made-up"}))
    assert len(issuer.asked) == 4


async def test_a_key_that_was_withdrawn_ends_to_count(issuer, tokens):
    old = issuer.signed()
    await tokens.key_of(old)
    issuer.keys = {"b": ec.generate_private_key(ec.SECP256R1())}
    assert await tokens.key_of(old)
    issuer.now += FRESH_SECONDS
    with pytest.raises(NotAuthenticated):
        await tokens.key_of(old)


async def test_while_the_issuer_is_silent_known_keys_count(issuer, tokens):
    await tokens.key_of(issuer.signed())
    issuer.is_silent = True
    issuer.now += 10 * FRESH_SECONDS
    assert await tokens.key_of(issuer.signed())
    assert "refused" in tokens.keys.problem
    issuer.is_silent = False
    issuer.now += PAUSE_SECONDS
    assert await tokens.key_of(issuer.signed())
    assert not tokens.keys.problem


async def test_when_no_key_was_ever_known_it_is_to_be_tried_again(issuer, tokens):
    issuer.is_silent = True
    with pytest.raises(KeysUnavailable, match="refused") as caught:
        await tokens.key_of(issuer.signed())
    assert caught.value.retry_after_seconds


async def test_keys_and_tokens_are_both_taken(issuer, tokens):
    keyring = Keyring(
        directory=None, generated=MemoryKeys(), clock=lambda: issuer.now, tokens=tokens
    )
    assert (await keyring.find(issuer.signed())).name == "ann"
    assert await keyring.find("hf_" + "a" * 43) is None
    with pytest.raises(NotAuthenticated, match="begin with hf_"):
        await keyring.find("a.b")


class Web:
    """What an issuer's server answers."""

    def __init__(self, status, content, headers=()):
        self.status, self.content, self.headers = status, content, list(headers)

    async def __call__(self, _, __, send):
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.content})


async def test_keys_come_over_http():
    async with serving(Web(200, b'{"keys": []}')) as url:
        assert await fetch_json(url) == {"keys": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Web(500, b"{}"), "500"),
        (Web(302, b"", [(b"location", b"http://127.0.0.1:9/")]), "302"),
        (Web(200, b"<html>"), "no JSON"),
        (Web(200, b"[]"), "no JSON object"),
        (Web(200, b"x" * (2 << 20)), "larger"),
    ],
)
async def test_what_is_no_answer_of_an_issuer_is_said(answer, words):
    async with serving(answer) as url:
        with pytest.raises(IssuerSilent, match=words):
            await fetch_json(url)
