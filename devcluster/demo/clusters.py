"""Where the demo runs: the development cluster, kind, k3d, or the current kubectl context."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from devcluster.demo.failure import DemoFailure
from devcluster.demo.kubectl import Kubectl

KIND_NAME = "modelserver-demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    operator: str
    runtime: str


class DemoCluster(Protocol):
    """A Kubernetes that the demo can use."""

    def up(self) -> Kubectl: ...

    def images(self) -> Images:
        """Builds both images and makes the cluster able to run them."""
        ...

    def service_url(
        self, kubectl: Kubectl, namespace: str, service: str
    ) -> contextlib.AbstractContextManager[str]: ...

    def down(self) -> None: ...

    def how_to_connect(self, kubectl: Kubectl) -> str: ...


def cluster_named(choice: str) -> DemoCluster:
    """Raises DemoFailure for a name that is none of the four."""
    match choice:
        case "devcluster":
            return DevelopmentCluster(name=os.environ.get("DEVCLUSTER_NAME", "dev"))
        case "existing":
            return ExistingCluster()
        case "kind" | "k3d":
            return DockerCluster(tool=choice)
        case _:
            raise DemoFailure(
                f"CLUSTER is {choice!r}; it must be devcluster, existing, kind or k3d"
            )


def devcluster(*arguments: str, capture: bool = False) -> str:
    """Runs the development cluster's own command line."""
    command = [sys.executable, "-m", "devcluster", *arguments]
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode:
        raise DemoFailure(f"`python -m devcluster {' '.join(arguments)}` failed; see above")
    return done.stdout.strip() if capture else ""


def build_images() -> Images:
    tags = devcluster("images", capture=True).split()
    return Images(
        operator=next(tag for tag in tags if "operator" in tag),
        runtime=next(tag for tag in tags if "runtime" in tag),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentCluster:
    """Kubernetes on this machine, from the programs themselves."""

    name: str

    def up(self) -> Kubectl:
        devcluster("up", "--name", self.name)
        return Kubectl(
            program=devcluster("build", "kubectl", capture=True),
            kubeconfig=devcluster("kubeconfig", "--name", self.name, capture=True),
        )

    def images(self) -> Images:
        images = build_images()
        devcluster("load-image", "--name", self.name, images.operator, images.runtime)
        return images

    @contextlib.contextmanager
    def service_url(self, kubectl: Kubectl, namespace: str, service: str) -> Iterator[str]:
        """The Service's own address: kube-proxy runs on this machine."""
        found = kubectl.get("-n", namespace, "service", service)
        if found is None:
            raise DemoFailure(f"Service {namespace}/{service} does not exist")
        yield f"http://{found['spec']['clusterIP']}"

    def down(self) -> None:
        devcluster("down", "--name", self.name)

    def how_to_connect(self, kubectl: Kubectl) -> str:
        return f"export KUBECONFIG={kubectl.kubeconfig}"


def port_forward(kubectl: Kubectl, namespace: str, service: str) -> Iterator[str]:
    """A local address of the Service, for clusters whose network this machine is not part of."""
    command = kubectl.command("-n", namespace, "port-forward", f"service/{service}", ":80")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not found:
            raise DemoFailure(f"kubectl port-forward said {line!r}; expected a local port")
        try:
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingCluster:
    """The current kubectl context. Not yet run against a remote cluster.

    Images are pushed to $IMAGE_REGISTRY, from which the cluster must be able to pull.
    """

    def up(self) -> Kubectl:
        kubectl = Kubectl(program=required("kubectl"), kubeconfig="")
        kubectl.run("version")
        return kubectl

    def images(self) -> Images:
        registry = os.environ.get("IMAGE_REGISTRY", "")
        if not registry:
            raise DemoFailure(
                "CLUSTER=existing needs IMAGE_REGISTRY, a registry that this machine can push to "
                "and the cluster can pull from, such as IMAGE_REGISTRY=registry.example.com/team"
            )
        built = build_images()
        return Images(
            operator=push(built.operator, registry), runtime=push(built.runtime, registry)
        )

    @contextlib.contextmanager
    def service_url(self, kubectl: Kubectl, namespace: str, service: str) -> Iterator[str]:
        yield from port_forward(kubectl, namespace, service)

    def down(self) -> None:
        """Nothing of the cluster itself: it is not ours."""

    def how_to_connect(self, kubectl: Kubectl) -> str:  # noqa: ARG002  one signature for all clusters
        return "kubectl config current-context    # already yours"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerCluster:
    """kind or k3d, where Docker and the tool exist. Not yet run."""

    tool: str

    def up(self) -> Kubectl:
        program = required(self.tool)
        listed = run(program, *self._list()).split()
        if KIND_NAME not in listed:
            run(program, *self._create())
        context = f"{self.tool}-{KIND_NAME}"
        run(required("kubectl"), "config", "use-context", context)
        return Kubectl(program=required("kubectl"), kubeconfig="")

    def images(self) -> Images:
        images = build_images()
        for image in (images.operator, images.runtime):
            run(self.tool, *self._load(image))
        return images

    @contextlib.contextmanager
    def service_url(self, kubectl: Kubectl, namespace: str, service: str) -> Iterator[str]:
        yield from port_forward(kubectl, namespace, service)

    def down(self) -> None:
        run(required(self.tool), *self._delete())

    def how_to_connect(self, kubectl: Kubectl) -> str:  # noqa: ARG002  one signature for all clusters
        return f"kubectl config use-context {self.tool}-{KIND_NAME}"

    def _list(self) -> list[str]:
        return ["get", "clusters"] if self.tool == "kind" else ["cluster", "list", "--no-headers"]

    def _create(self) -> list[str]:
        if self.tool == "kind":
            return ["create", "cluster", "--name", KIND_NAME, "--wait", "120s"]
        return ["cluster", "create", KIND_NAME, "--wait"]

    def _load(self, image: str) -> list[str]:
        if self.tool == "kind":
            return ["load", "docker-image", image, "--name", KIND_NAME]
        return ["image", "import", image, "--cluster", KIND_NAME]

    def _delete(self) -> list[str]:
        if self.tool == "kind":
            return ["delete", "cluster", "--name", KIND_NAME]
        return ["cluster", "delete", KIND_NAME]


def push(image: str, registry: str) -> str:
    target = f"{registry}/{image.rpartition('/')[2]}"
    run(required("docker"), "tag", image, target)
    run(required("docker"), "push", target)
    return target


def required(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise DemoFailure(f"{program} is not on PATH; install it or use CLUSTER=devcluster")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoFailure(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
    return done.stdout
