"""The cluster's certificate authority and the certificates that its programs know each other by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.command import need_tools, run

_DAYS = "3650"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A user is its common name; its groups are the organisations (Kubernetes' x509 rules).

    `alternatives` makes it a server's certificate as well: `DNS:name` and `IP:address`.
    """

    name: str
    user: str
    group: str = ""
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files in one folder: `NAME.crt` and `NAME.key` of each subject."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "service-account.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.folder / "service-account.pub"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def make_certificates(folder: Path, subjects: Sequence[Subject]) -> Certificates:
    """Make what is missing; a certificate that exists is kept, with the keys others trust."""
    need_tools({"openssl": "openssl"}, purpose="making certificates")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificates = Certificates(folder)
    _make_authority(certificates)
    _make_service_account_keys(certificates)
    for subject in subjects:
        if not certificates.certificate(subject.name).exists():
            _issue(certificates, subject)
    return certificates


def _make_authority(certificates: Certificates) -> None:
    if not certificates.ca.exists():
        key_usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
        _request(certificates, "ca", "/CN=devcluster", ["-addext", key_usage])


def _make_service_account_keys(certificates: Certificates) -> None:
    public, private = certificates.service_account_public_key, certificates.service_account_key
    if public.exists():
        return
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private])
    _publish(public, ["openssl", "ec", "-in", private, "-pubout", "-out"])


def _issue(certificates: Certificates, subject: Subject) -> None:
    groups = f"/O={subject.group}" if subject.group else ""
    usage = "clientAuth,serverAuth" if subject.alternatives else "clientAuth"
    extensions: list[str | Path] = [
        *("-CA", certificates.ca, "-CAkey", certificates.key("ca")),
        *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}"),
    ]
    if subject.alternatives:
        extensions += ["-addext", f"subjectAltName={','.join(subject.alternatives)}"]
    _request(certificates, subject.name, f"{groups}/CN={subject.user}", extensions)


def _request(
    certificates: Certificates, name: str, subject: str, options: Sequence[str | Path]
) -> None:
    _publish(
        certificates.certificate(name),
        [
            *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", subject, *options),
            *("-keyout", certificates.key(name), "-out"),
        ],
    )


def _publish(path: Path, argv: Sequence[str | Path]) -> None:
    """Let the file appear last and whole: its existence says that all of its kind exist."""
    unfinished = path.with_suffix(".new")
    run([*argv, unfinished])
    unfinished.rename(path)
