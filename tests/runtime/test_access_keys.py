"""Keys: their records, the mounted Secret and its changes, and where generated keys are kept."""

import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.access import keyring as keyring_module
from modelserver_runtime.access.addresses import client_address, limited_part
from modelserver_runtime.access.directory import KeyDirectory
from modelserver_runtime.access.keyring import Keyring
from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.principal import ApiKey, KeyLimits, Scope, Source
from modelserver_runtime.access.record import BadRecord, Grants, document_of, key_of, parse_record
from modelserver_runtime.access.secret import digest_of, id_of, is_secret, new_secret
from modelserver_runtime.access.stores import FileKeys, MemoryKeys, RedisKeys
from modelserver_runtime.engine.request import Priority
from modelserver_runtime.errors import KeysUnavailable
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage import open_store
from modelserver_runtime.telemetry import Telemetry
from support.access import SecretVolume, record

KEY = "hf_" + "A" * 43
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- keys and records ----------------------------------------------------------------------------


def test_a_key_is_hf_and_32_random_bytes_and_is_not_in_its_record():
    secret, key = make_key(Grants(), name="ci", created=NOW)
    assert is_secret(secret)
    assert len({new_secret() for _ in range(100)}) == 100
    assert key.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert key.prefix == secret[:8]
    assert secret not in json.dumps(document_of(key))
    assert key.digest not in repr(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, {}),
        (f"{KEY}\n", {}),
        (f"sha256:{DIGEST}", {"prefix": ""}),
        (f"key: {KEY}", {}),
        (f"hash: sha256:{DIGEST}\nprefix: hf_AAAAA", {}),
        (f"hash: {DIGEST}\nprefix: hf_AAAAA", {}),
        (json.dumps({"key": KEY, "name": "other"}), {"name": "other"}),
        (
            (
                f"key: {KEY}\nid: mine\ntenant: team\nscopes: [admin, metrics]\n"
                "models: ['qwen-*']\nexpires: 2027-01-31T00:00:00Z\nhighest_priority: critical\n"
                "limits: {requests_per_minute: 5, tokens_per_minute: 6, concurrent_requests: 7}\n"
            ),
            {
                "id": "mine",
                "tenant": "team",
                "scopes": frozenset({Scope.ADMIN, Scope.METRICS}),
                "models": ("qwen-*",),
                "expires": datetime(2027, 1, 31, tzinfo=UTC),
                "highest_priority": Priority.CRITICAL,
                "limits": KeyLimits(
                    requests_per_minute=5, tokens_per_minute=6, concurrent_requests=7
                ),
            },
        ),
    ],
)
def test_a_record_is_understood(text, expected):
    plain = {"id": id_of(digest_of(KEY)), "name": "file", "prefix": "hf_AAAAA"}
    expected_key = ApiKey(**{**plain, "digest": digest_of(KEY), **expected})
    assert parse_record(text, name="file") == expected_key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it holds no record and no key; make one with: modelserver-runtime keys generate"),
        ("hello", "it holds no record and no key"),
        ("- a\n- b", "it holds no record and no key"),
        ("key: [", "it is neither YAML nor JSON (line 1)"),
        (f"key: {KEY}x", "key is not hf_ and 43 characters"),
        ("hf_short", "key is not hf_ and 43 characters"),
        ("sha256:abc", "hash is not sha256: and 64 hexadecimal digits"),
        ("name: x", "give either key (the key itself) or hash (sha256:...)"),
        (f"key: {KEY}\nhash: sha256:{DIGEST}", "give either key"),
        (f"key: {KEY}\nscope: [admin]", "scope is no field of a key; there are tenant, scopes"),
        (f"key: {KEY}\nscopes: [root]", "scopes.0: Input should be 'inference', 'models'"),
        (f"key: {KEY}\nscopes: []", "scopes: "),
        (f"key: {KEY}\nexpires: 2027-01-31", "2027-01-31 has no time zone; write it like"),
        (f"key: {KEY}\nexpires: 2027-01-31T00:00:00", "has no time zone"),
        (f"key: {KEY}\nhighest_priority: top", "highest_priority: Input should be 'low'"),
        (f"key: {KEY}\nlimits: {{requests_per_minute: 0}}", "limits.requests_per_minute: "),
        (f"key: {KEY}\nid: 'a b'", "id: "),
    ],
)
def test_a_wrong_record_is_a_sentence_without_the_key(text, says):
    with pytest.raises(BadRecord) as caught:
        parse_record(text, name="file")
    assert says in str(caught.value)
    assert "AAAAAAAAA" not in str(caught.value)


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
keys = st.builds(
    lambda name, tenant, scopes, models, seconds, priority, limits: make_key(
        Grants(
            tenant=tenant,
            scopes=scopes,
            models=models,
            highest_priority=priority,
            limits={"requests_per_minute": limits},
        ),
        name=name,
        created=NOW,
        expires=NOW + timedelta(seconds=seconds),
    )[1],
    names,
    st.one_of(st.just(""), names),
    st.frozensets(st.sampled_from(Scope), min_size=1),
    st.lists(names, max_size=3),
    st.integers(-1000, 10**8),
    st.sampled_from(["low", "normal", "high", "critical"]),
    st.one_of(st.none(), st.integers(1, 10**6)),
)


@given(keys)
def test_a_record_survives_being_kept(key):
    kept = json.loads(json.dumps(document_of(key)))
    assert key_of(kept, name="", source=Source.GENERATED) == key


# -- the mounted Secret --------------------------------------------------------------------------


async def test_a_secret_rotates_by_its_link_without_a_restart(tmp_path):
    volume, clock = SecretVolume(tmp_path / "keys"), Clock()
    (old, old_file), (new, new_file) = record(), record()
    volume.write({"a.json": old_file})
    keyring = Keyring(directory=KeyDirectory(volume.path), generated=MemoryKeys(), clock=clock)
    assert (await keyring.find(old)).name == "a"
    volume.write({"a.json": old_file, "b.json": new_file})
    clock.now += 3
    assert await keyring.find(old)
    assert (await keyring.find(new)).name == "b"
    volume.write({"b.json": new_file})
    clock.now += 3
    assert await keyring.find(old) is None
    assert await keyring.find(new)


def test_a_file_that_breaks_leaves_what_it_said_before_and_is_named(tmp_path, caplog):
    volume = SecretVolume(tmp_path / "keys")
    key, good = record(scopes=["admin"])
    volume.write({"a.json": good})
    directory = KeyDirectory(volume.path)
    volume.write({"a.json": good[:-5], "b.json": "nonsense"})
    with caplog.at_level(logging.ERROR):
        assert directory.look()
        directory.look()
    assert [found.digest for found in directory.state.keys.values()] == [digest_of(key)]
    assert "what it said before counts" in directory.state.problems["a.json"]
    assert "it gives no key" in directory.state.problems["b.json"]
    assert len(caplog.records) == 2, "each problem is said once"
    assert key not in caplog.text
    volume.write({"a.json": good})
    assert directory.look()
    assert not directory.state.problems


def test_a_directory_that_goes_away_leaves_its_keys(tmp_path):
    path = tmp_path / "keys"
    path.mkdir()
    (path / "a").write_text(KEY)
    directory = KeyDirectory(path)
    path.rename(tmp_path / "gone")
    directory.look()
    assert list(directory.state.keys) == ["a"]
    assert str(path) in directory.state.problems
    (tmp_path / "gone").rename(path)
    assert directory.look()
    assert not directory.state.problems


def test_what_is_no_record_is_told(tmp_path):
    (tmp_path / "a").write_text(KEY)
    (tmp_path / "same").write_text(f"sha256:{DIGEST}")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * 70_000)
    (tmp_path / ".hidden").write_text("nonsense")
    (tmp_path / "folder").mkdir()
    state = KeyDirectory(tmp_path).state
    assert list(state.keys) == ["a"]
    assert {name: text.partition(";")[0] for name, text in state.problems.items()} == {
        "same": "it holds the same key as a, which counts",
        "binary": "it is no text in UTF-8",
        "large": "it is larger than 65536 bytes",
    }


# -- finding -------------------------------------------------------------------------------------


async def test_digests_are_compared_in_constant_time(tmp_path, monkeypatch):
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Spy:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(keyring_module, "hmac", Spy)
    alike = f"sha256:{DIGEST[:32]}{'0' * 32}"  # begins as the right one does
    (tmp_path / "alike").write_text(alike)
    keyring = Keyring(directory=KeyDirectory(tmp_path), generated=MemoryKeys(), clock=Clock())
    assert await keyring.find(KEY) is None
    assert compared[0] == (alike.removeprefix("sha256:"), DIGEST)


# -- generated keys ------------------------------------------------------------------------------


def a_key(name: str = "ci") -> ApiKey:
    return make_key(Grants(), name=name, created=NOW)[1]


async def test_a_file_keeps_keys_for_the_next_process_and_for_other_programs(tmp_path):
    first, second = FileKeys(tmp_path / "state"), FileKeys(tmp_path / "state")
    one, two = a_key("one"), a_key("two")
    await first.add(one)
    await second.add(two)
    assert await first.refresh()
    assert first.keys == {one.id: one, two.id: two}
    assert await second.remove(one.id)
    assert not await second.remove(one.id)
    await first.refresh()
    assert first.keys == {two.id: two}
    path = tmp_path / "state" / "keys.json"
    assert path.stat().st_mode & 0o077 == 0


async def test_a_broken_file_of_keys_is_not_overwritten(tmp_path):
    store, key = FileKeys(tmp_path), a_key()
    await store.add(key)
    (tmp_path / "keys.json").write_text('{"keys": [')
    await store.refresh()
    assert store.keys == {key.id: key}
    with pytest.raises(KeysUnavailable, match=r"keys\.json cannot be read"):
        await store.add(a_key())
    assert (tmp_path / "keys.json").read_text() == '{"keys": ['


async def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeysUnavailable, match="MODELSERVER_ACCESS_STATE_DIRECTORY"):
        await FileKeys(tmp_path / "file" / "state").add(a_key())


async def test_replicas_share_keys_through_redis_and_know_them_without_it(redis_server):
    clock = Clock()
    settings = Settings(redis_url=redis_server.url, redis_timeout_seconds=5)
    stores = [open_store(settings, Telemetry(), clock) for _ in range(2)]
    one, two = (Keyring(directory=None, generated=RedisKeys(s), clock=clock) for s in stores)
    secret, key = make_key(Grants(), name="ci", created=NOW)
    gone_secret, gone = make_key(Grants(), name="gone", created=NOW)
    await one.add(key)
    await one.add(gone)
    assert (await two.find(secret)) == key, "at once, without waiting for the next look"
    assert await one.remove(gone.id)
    clock.now += 3
    assert await two.find(gone_secret) is None
    redis_server.kill()
    clock.now += 3
    assert await two.find(secret) == key
    assert await two.find(new_secret()) is None, "all keys are known, so this is none"
    assert "redis" in two.problems()
    with pytest.raises(KeysUnavailable, match="not sure that the key is kept; try again"):
        await one.add(a_key())
    redis_server.start()
    clock.now += 60
    await two.all()
    assert not two.problems()
    for store in stores:
        await store.close()


async def test_keys_are_written_back_to_a_redis_that_has_lost_them(redis_server):
    clock = Clock()
    settings = Settings(redis_url=redis_server.url, redis_timeout_seconds=5)
    store = open_store(settings, Telemetry(), clock)
    keyring = Keyring(directory=None, generated=RedisKeys(store), clock=clock)
    secret, key = make_key(Grants(), name="ci", created=NOW)
    await keyring.add(key)
    redis_server.forget()
    for _ in range(2):  # the first may meet the closed connection
        clock.now += 60
        assert await keyring.find(secret) == key
    fresh = Keyring(directory=None, generated=RedisKeys(store), clock=clock)
    assert await fresh.find(secret) == key
    await store.close()


async def test_a_key_that_nobody_could_look_up_is_not_called_unknown(redis_server):
    redis_server.kill()
    settings = Settings(redis_url=redis_server.url, redis_timeout_seconds=5)
    store = open_store(settings, Telemetry(), Clock())
    keyring = Keyring(directory=None, generated=RedisKeys(store), clock=Clock())
    with pytest.raises(KeysUnavailable, match="cannot be checked now"):
        await keyring.find(KEY)
    await store.close()


# -- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("9.9.9.9", ["1.2.3.4"], "9.9.9.9"),  # a stranger is not believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # what the client made up
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ['"[2001:db8::1]:443"'], "2001:db8::1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("", ["1.2.3.4"], ""),  # a socket of this machine
    ],
)
def test_an_address_is_the_last_that_no_trusted_proxy_has(peer, forwarded, expected):
    trusted = Settings(trusted_proxies=["10.0.0.0/8"]).trusted_proxies
    assert client_address(peer, forwarded, trusted) == expected


def test_an_ipv6_client_has_one_limit_for_its_network():
    assert limited_part("2001:db8::1") == limited_part("2001:db8::ffff:1") == "2001:db8::/64"
    assert limited_part("10.0.0.1") != limited_part("10.0.0.2")
