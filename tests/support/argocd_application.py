"""An Application of Argo CD, the folder with its manifests, and everything it ever said."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from support.argocd import NAMESPACE, ArgoCD
from support.manifests import REPOSITORY
from support.waiting import wait_until

type Manifest = dict[str, Any]

APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/applications"
REFRESH = "argocd.argoproj.io/refresh"
EXAMPLE = REPOSITORY / "examples" / "argocd" / "application.yaml"


class GitRepository:
    """A folder with a commit for each `write`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def write(self, *manifests: Manifest) -> str:
        """Returns the commit."""
        (self.folder / "manifests.yaml").write_text(yaml.safe_dump_all(manifests))
        self._git("add", ".")
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        self._git(*who, "commit", "--quiet", "--message", "change")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        result = subprocess.run(
            ["git", "-C", self.folder, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | plain,
        )
        assert result.returncode == 0, f"git {arguments}: {result.stderr}"
        return result.stdout


@dataclass(frozen=True, slots=True)
class Seen:
    """What an Application said of itself at some moment; `revision` is the commit compared with."""

    sync: str
    health: str
    revision: str

    @classmethod
    def of(cls, application: Manifest) -> "Seen":
        status = application.get("status", {})
        sync = status.get("sync", {})
        return cls(
            sync.get("status", ""),
            status.get("health", {}).get("status", ""),
            sync.get("revision", ""),
        )


class Application:
    """One that syncs a folder of ModelServers by itself, prunes and heals; none of it excused."""

    def __init__(
        self,
        argocd: ArgoCD,
        repository: GitRepository,
        namespace: str,
        *,
        options: Sequence[str] = (),
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.argocd = argocd
        self.repository = repository
        self.name = self.namespace = namespace
        self.options = list(options)
        self.annotations = dict(annotations or {})
        self.history: list[Seen] = []  # every change of it, as the API server told it

    @property
    def path(self) -> str:
        return f"{APPLICATIONS}/{self.name}"

    def manifest(self) -> Manifest:
        """`examples/argocd/application.yaml`, for another folder and another namespace."""
        found = yaml.safe_load(EXAMPLE.read_text())
        found["metadata"]["name"] = self.name
        found["metadata"]["annotations"] = self.annotations
        found["spec"]["source"] |= {"repoURL": self.repository.url, "path": "."}
        found["spec"]["destination"]["namespace"] = self.namespace
        found["spec"]["syncPolicy"]["syncOptions"] += self.options
        assert "ignoreDifferences" not in found["spec"]
        return found

    @contextmanager
    def followed(self) -> Iterator[Self]:
        """Creates it, and writes its history until the end of the block."""
        made = self.argocd.kube.create(self.manifest())
        watching = threading.Thread(target=self._follow, args=(made,), daemon=True)
        watching.start()
        try:
            yield self
        finally:
            self.argocd.kube.delete(self.path)
            watching.join(30)
        assert not watching.is_alive(), f"the watch of {self.name} did not see it go"

    def _follow(self, made: Manifest) -> None:
        options = {
            "watch": "true",
            "fieldSelector": f"metadata.name={self.name}",
            "resourceVersion": made["metadata"]["resourceVersion"],
        }
        http = self.argocd.kube.http
        with http.stream("GET", APPLICATIONS, params=options, timeout=None) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] == "DELETED":
                    return
                self._remember(Seen.of(event["object"]))

    def _remember(self, seen: Seen) -> None:
        if self.history[-1:] != [seen]:
            self.history.append(seen)

    def refresh(self) -> None:
        """As a webhook of the Git server does it."""
        metadata = {"annotations": {REFRESH: "normal"}}
        self.argocd.kube.patch(self.path, {"metadata": metadata})

    def write(self, *manifests: Manifest) -> str:
        commit = self.repository.write(*manifests)
        self.refresh()
        return commit

    def wait(self, health: str, commit: str, timeout: float = 240) -> int:
        """Until it is Synced with the commit and has that health; how long its history is then."""
        wanted = Seen("Synced", health, commit)

        def look() -> bool:
            self.argocd.check()
            return self.history[-1:] == [wanted]

        try:
            wait_until(look, timeout=timeout, what=f"{self.name}: {wanted}")
        except AssertionError as e:
            log = self.argocd.last_lines("argocd-application-controller", 5)
            raise AssertionError(f"{e}; history: {self.history}; {log}") from e
        return len(self.history)

    def get(self) -> Manifest:
        found = self.argocd.kube.get(self.path)
        assert found is not None, f"no Application {self.name}"
        return found

    @property
    def syncs(self) -> int:
        """How many times it has written to the cluster."""
        return len(self.get()["status"]["history"])

    def compare(self, timeout: float = 240) -> None:
        """Lets it compare Git with the cluster once more, and waits until it has."""
        before = self.get()["status"]["reconciledAt"]
        self.refresh()

        def has_compared() -> bool:
            found = self.get()
            is_asked = REFRESH in found["metadata"].get("annotations", {})
            return not is_asked and found["status"]["reconciledAt"] != before

        wait_until(has_compared, timeout=timeout, what=f"{self.name} compared again")

    # -- what people see and click --------------------------------------------------------------

    def tree(self) -> list[Manifest]:
        return self._must("/resource-tree")["nodes"]

    def node(self, kind: str, name: str) -> Manifest:
        found = [one for one in self.tree() if (one["kind"], one["name"]) == (kind, name)]
        assert len(found) == 1, f"{len(found)} nodes {kind}/{name} in {self.tree()}"
        return found[0]

    def possible_actions(self, server: str) -> set[str]:
        answer = self._must("/resource/actions", params=self._resource(server))
        return {one["name"] for one in answer["actions"] if not one.get("disabled")}

    def act(self, action: str, server: str, **parameters: str) -> None:
        answer = self._act(action, server, parameters)
        assert answer.is_success, f"{action}: {answer.status_code} {answer.text[:500]}"

    def refusal(self, action: str, server: str, **parameters: str) -> str:
        """What it says about an action that it does not do."""
        answer = self._act(action, server, parameters)
        assert answer.is_error, f"{action} was done"
        return answer.json()["message"]

    def _act(self, action: str, server: str, parameters: dict[str, str]) -> httpx.Response:
        given = [{"name": name, "value": value} for name, value in parameters.items()]
        body = self._resource(server) | {"action": action, "resourceActionParameters": given}
        return self._ask("POST", "/resource/actions/v2", json=body)

    def _resource(self, server: str) -> dict[str, str]:
        return {
            "namespace": self.namespace,
            "resourceName": server,
            "group": "modelserver.dev",
            "version": "v1alpha1",
            "kind": "ModelServer",
        }

    def _must(self, path: str, **options: Any) -> Manifest:
        answer = self._ask("GET", path, **options)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self.argocd.url}/api/v1/applications/{self.name}{path}"
        return httpx.request(method, url, timeout=60, **options)
