"""The API server, as the user's kubeconfig knows it."""

import json
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from modelserver_cli.errors import CommandFailed
from modelserver_operator.resources.kinds import MODEL_SERVER, Kind

type Manifest = dict[str, Any]

# An API server that works answers in less than a second; a person waits.
_TIMEOUT_SECONDS = 30
_FIRST_ERROR_STATUS = 400


class Refused(CommandFailed):
    """The API server answered with an error; `status` is that of HTTP."""

    def __init__(self, status: int, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason


class Cluster:
    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    @classmethod
    def open(cls, *, kubeconfig: str | None, context: str | None, namespace: str | None) -> Self:
        """As kubectl does: flags first, then KUBECONFIG, then ~/.kube/config."""
        try:
            contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
            api = config.new_client_from_config(kubeconfig, context, persist_config=False)
        except (ConfigException, OSError) as error:
            raise CommandFailed(
                f"There is no cluster to talk to: {_sentence(error)}",
                hint="Name a file with --kubeconfig or KUBECONFIG, and a context with --context.",
            ) from error
        api.configuration.retries = False
        chosen = next((one for one in contexts if one["name"] == context), active)
        return cls(api, namespace or chosen["context"].get("namespace") or "default")

    def inside(self, namespace: str) -> "Cluster":
        return Cluster(self._api, namespace)

    def close(self) -> None:
        self._api.close()

    def server(self, name: str) -> Manifest:
        """The ModelServer, or a sentence why there is none."""
        try:
            found = self.get(MODEL_SERVER, name)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
            found = None
        if found is None:
            self.require_definition()
            raise CommandFailed(
                f"There is no ModelServer {name} in namespace {self.namespace}",
                hint="`kubectl get modelservers -A` lists them; --namespace chooses another one.",
            )
        return found

    def require_definition(self) -> None:
        group = MODEL_SERVER.path
        if self._ask("GET", group)[0] == HTTPStatus.NOT_FOUND:
            raise CommandFailed(
                "This cluster does not know ModelServers: the CustomResourceDefinition is missing",
                hint="Install the operator with `kubectl apply -k manifests/base`.",
            )

    def get(self, kind: Kind, name: str, namespace: str = "") -> Manifest | None:
        status, body = self._ask("GET", f"{self._collection(kind, namespace)}/{name}")
        if status == HTTPStatus.NOT_FOUND:
            return None
        return _accepted(status, body)

    def items(self, kind: Kind, *, selector: str = "", namespace: str = "") -> list[Manifest]:
        """Of a kind that the cluster does not have there are none."""
        query = {"labelSelector": selector} if selector else {}
        status, body = self._ask("GET", self._collection(kind, namespace), query=query)
        if status == HTTPStatus.NOT_FOUND:
            return []
        found: list[Manifest] = _accepted(status, body)["items"]
        return [{"kind": kind.kind, "apiVersion": kind.api_version, **one} for one in found]

    def has(self, kind: Kind) -> bool:
        status, body = self._ask("GET", kind.path)
        resources = body.get("resources", []) if status == HTTPStatus.OK else []
        return any(one["name"] == kind.plural for one in resources)

    def annotate(self, name: str, key: str, value: str) -> None:
        patch = {"metadata": {"annotations": {key: value}}}
        self._send(MODEL_SERVER, "PATCH", name, patch, "application/merge-patch+json")

    def try_create(self, manifest: Manifest) -> Manifest:
        """What the API server would make of it: nothing is stored."""
        return self._send(MODEL_SERVER, "POST", "", manifest, query=_DRY_RUN)

    def try_replace(self, manifest: Manifest) -> Manifest:
        name = manifest["metadata"]["name"]
        return self._send(MODEL_SERVER, "PUT", name, manifest, query=_DRY_RUN)

    def try_apply(self, manifest: Manifest, manager: str) -> Manifest:
        query = {**_DRY_RUN, "fieldManager": manager, "force": "true"}
        name = manifest["metadata"]["name"]
        form = "application/apply-patch+yaml"  # JSON is YAML
        return self._send(MODEL_SERVER, "PATCH", name, manifest, form, query=query)

    def _send(
        self,
        kind: Kind,
        method: str,
        name: str,
        body: Manifest,
        content_type: str = "application/json",
        *,
        query: dict[str, str] | None = None,
    ) -> Manifest:
        path = "/".join(filter(None, (self._collection(kind, ""), name)))
        return _accepted(*self._ask(method, path, body, content_type, query=query))

    def _collection(self, kind: Kind, namespace: str) -> str:
        return f"{kind.path}/namespaces/{namespace or self.namespace}/{kind.plural}"

    def _ask(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        *,
        query: dict[str, str] | None = None,
    ) -> tuple[int, Manifest]:
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Content-Type": content_type}
        request = self._api.param_serialize(
            method, target, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=_TIMEOUT_SECONDS)
            data: bytes = answer.read()
        except (HTTPError, OSError) as error:
            raise CommandFailed(
                f"The API server at {self._api.configuration.host} does not answer:"
                f" {_sentence(error)}",
                hint="Is the cluster up, and is it the right --context?",
            ) from error
        return answer.status, _json(data)


_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


def _json(data: bytes) -> Manifest:
    """Not everything that the API server says is JSON: an unknown path is answered with text."""
    try:
        parsed = json.loads(data)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"message": data.decode(errors="replace")}


def _accepted(status: int, body: Manifest) -> Manifest:
    if status < _FIRST_ERROR_STATUS:
        return body
    message = str(body.get("message") or f"status {status}").strip()
    if status == HTTPStatus.UNAUTHORIZED:
        hint = "Log in again, or choose another user with --context."
        raise Refused(status, "", "The API server does not accept your credentials", hint=hint)
    if status == HTTPStatus.FORBIDDEN:
        raise Refused(status, "Forbidden", f"You may not do that: {message}")
    raise Refused(status, str(body.get("reason") or ""), message)


def _sentence(error: Exception) -> str:
    """The innermost reason: urllib3 wraps it several times."""
    reason = getattr(error, "reason", None)
    return _sentence(reason) if isinstance(reason, Exception) else str(error) or repr(error)
