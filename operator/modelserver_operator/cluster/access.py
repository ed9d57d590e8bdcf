"""Where the API server is and how we prove who we are: a pod's own account, or a kubeconfig."""

import base64
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from modelserver_operator.errors import InvalidConfiguration

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# A projected token is renewed at 80 % of its life, which is an hour at least.
TOKEN_MAX_AGE_SECONDS = 60.0


class Token(Protocol):
    """A bearer token as of now; `expire` says that it was refused."""

    def read(self, now: float) -> str: ...

    def expire(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`tls` is None for plain HTTP; `token` is None where a client certificate speaks for us."""

    server: str
    tls: ssl.SSLContext | None
    token: Token | None


@dataclass(frozen=True, slots=True)
class StaticToken:
    value: str

    def read(self, now: float) -> str:  # noqa: ARG002  a fixed token knows no time
        return self.value

    def expire(self) -> None:
        """A fixed token has nothing fresher to offer."""


class TokenFile:
    """A token that the kubelet renews in place; read again when old, or when it was refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = ""
        self._read_at: float | None = None

    def read(self, now: float) -> str:
        if self._read_at is None or now - self._read_at > TOKEN_MAX_AGE_SECONDS:
            self._value = self._path.read_text().strip()
            self._read_at = now
        return self._value

    def expire(self) -> None:
        self._read_at = None


def find_access(environment: Mapping[str, str], kubeconfig: str = "") -> Access:
    """A kubeconfig where one is named, else the pod's own ServiceAccount."""
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig))
    if "KUBERNETES_SERVICE_HOST" in environment:
        return in_cluster(environment)
    raise InvalidConfiguration(
        "no way to reach an API server: KUBERNETES_SERVICE_HOST is not set, so this is no pod; "
        "name a kubeconfig file with --kubeconfig or KUBECONFIG"
    )


def in_cluster(
    environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT_DIRECTORY
) -> Access:
    host = environment["KUBERNETES_SERVICE_HOST"]
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{address}:{port}",
        tls=ssl.create_default_context(cafile=str(directory / "ca.crt")),
        token=TokenFile(directory / "token"),
    )


def from_kubeconfig(path: Path) -> Access:
    """The current context of a kubeconfig: token, token file or client certificate."""
    document = _read(path)
    context = _named(document, "contexts", document.get("current-context", ""), path)["context"]
    cluster = _named(document, "clusters", context["cluster"], path)["cluster"]
    user = _named(document, "users", context["user"], path)["user"]
    server = cluster["server"].rstrip("/")
    return Access(
        server=server,
        tls=_tls(cluster, user, path.parent) if server.startswith("https") else None,
        token=_token(user, path.parent),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as e:
        raise InvalidConfiguration(f"cannot read the kubeconfig {path}: {e}") from e
    if not isinstance(document, dict):
        raise InvalidConfiguration(f"{path} is not a kubeconfig: expected a YAML mapping")
    return document


def _named(document: dict[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry["name"] == name:
            return dict(entry)
    raise InvalidConfiguration(
        f"{path} has no {section[:-1]} named {name!r}; check current-context"
    )


def _token(user: Mapping[str, Any], folder: Path) -> Token | None:
    if "tokenFile" in user:
        return TokenFile(folder / user["tokenFile"])
    if "token" in user:
        return StaticToken(user["token"])
    return None


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "certificate-authority-data" in cluster:
        data = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=data)
    elif "certificate-authority" in cluster:
        authority = folder / cluster["certificate-authority"]
        context = ssl.create_default_context(cafile=str(authority))
    _load_client_certificate(context, user, folder)
    return context


def _load_client_certificate(
    context: ssl.SSLContext, user: Mapping[str, Any], folder: Path
) -> None:
    if "client-certificate" in user:
        context.load_cert_chain(folder / user["client-certificate"], folder / user["client-key"])
    if "client-certificate-data" in user:
        _load_inline(context, user["client-certificate-data"], user["client-key-data"])


def _load_inline(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The ssl module reads client certificates from files only; a folder of ours is 0700."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "tls.crt", Path(folder) / "tls.key"
        for path, encoded in zip(paths, (certificate, key), strict=True):
            path.write_bytes(base64.b64decode(encoded))
        context.load_cert_chain(*paths)
