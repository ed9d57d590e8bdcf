"""The way to the API server: a pod's own account, or a kubeconfig."""

import base64
import shutil
import ssl
import subprocess

import pytest
import yaml

from modelserver_operator.cluster.access import (
    TOKEN_MAX_AGE_SECONDS,
    TokenFile,
    find_access,
    from_kubeconfig,
    in_cluster,
)
from modelserver_operator.cluster.transport import translate
from modelserver_operator.errors import (
    Conflict,
    Expired,
    Forbidden,
    InvalidConfiguration,
    NotFound,
    Rejected,
    Unavailable,
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    assert shutil.which("openssl"), "these tests make a certificate with openssl"
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=test"
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


def write_kubeconfig(folder, *, cluster=None, user=None, **more):
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user or {}}],
    } | more
    path = folder / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def test_a_pod_uses_its_own_account(certificate, tmp_path):
    shutil.copy(certificate / "tls.crt", tmp_path / "ca.crt")
    (tmp_path / "token").write_text("secret\n")
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster(environment, tmp_path)
    assert access.server == "https://10.0.0.1:6443"
    assert access.token.read(0) == "secret"
    assert access.tls.verify_mode is ssl.CERT_REQUIRED


def test_an_ipv6_address_is_put_in_brackets(certificate, tmp_path):
    shutil.copy(certificate / "tls.crt", tmp_path / "ca.crt")
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert access.server == "https://[fd00::1]:443"


def test_neither_pod_nor_kubeconfig_says_what_to_do():
    with pytest.raises(InvalidConfiguration, match="name a kubeconfig file with --kubeconfig"):
        find_access({})


def test_a_token_is_read_again_when_it_is_old_or_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    token = TokenFile(path)
    assert token.read(0) == "one"
    path.write_text("two")
    assert token.read(TOKEN_MAX_AGE_SECONDS) == "one"
    assert token.read(TOKEN_MAX_AGE_SECONDS + 1) == "two"
    path.write_text("three")
    token.expire()
    assert token.read(TOKEN_MAX_AGE_SECONDS + 2) == "three"


def test_a_kubeconfig_with_a_token(tmp_path):
    access = from_kubeconfig(write_kubeconfig(tmp_path, user={"token": "secret"}))
    assert access.server == "http://127.0.0.1:1"
    assert access.token.read(0) == "secret"
    assert access.tls is None


def test_a_kubeconfig_with_a_token_file_beside_it(tmp_path):
    (tmp_path / "token").write_text("secret")
    access = from_kubeconfig(write_kubeconfig(tmp_path, user={"tokenFile": "token"}))
    assert access.token.read(0) == "secret"


@pytest.mark.parametrize("inline", [True, False])
def test_a_kubeconfig_with_certificates(tmp_path, certificate, inline):
    crt, key = certificate / "tls.crt", certificate / "tls.key"
    if inline:
        cluster = {"certificate-authority-data": encoded(crt)}
        user = {"client-certificate-data": encoded(crt), "client-key-data": encoded(key)}
    else:
        cluster = {"certificate-authority": str(crt)}
        user = {"client-certificate": str(crt), "client-key": str(key)}
    cluster["server"] = "https://127.0.0.1:1"
    access = from_kubeconfig(write_kubeconfig(tmp_path, cluster=cluster, user=user))
    assert access.token is None
    assert access.tls.verify_mode is ssl.CERT_REQUIRED
    assert access.tls.get_ca_certs()[0]["subject"] == ((("commonName", "test"),),)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"current-context": "elsewhere"},
            "has no context named 'elsewhere'; check current-context",
        ),
        ({"users": []}, "has no user named 'u'"),
    ],
)
def test_a_kubeconfig_that_does_not_fit_together_is_refused(tmp_path, more, message):
    with pytest.raises(InvalidConfiguration, match=message):
        from_kubeconfig(write_kubeconfig(tmp_path, **more))


def test_a_kubeconfig_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidConfiguration, match="cannot read the kubeconfig"):
        from_kubeconfig(tmp_path / "nothing")


RBAC = 'pods is forbidden: User "system:serviceaccount:a:b" cannot list resource "pods"'


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "bad", Rejected),
        (401, "who are you", Forbidden),
        (403, RBAC, Forbidden),
        (403, "exceeded quota: compute", Rejected),
        (403, "namespace x is being terminated", Rejected),
        (404, "none", NotFound),
        (409, "changed", Conflict),
        (410, "too old", Expired),
        (422, "invalid", Rejected),
        (429, "too many", Unavailable),
        (500, "broken", Unavailable),
        (504, "slow", Unavailable),
    ],
)
def test_every_refusal_says_who_must_act(status, message, kind):
    failure = translate(message, status=status)
    assert type(failure) is kind
    assert failure.status == status


def test_retry_after_is_kept():
    assert translate("busy", status=429, retry_after="3").retry_after_seconds == 3
    assert translate("busy", status=429, retry_after="Wed, 21 Oct").retry_after_seconds is None
