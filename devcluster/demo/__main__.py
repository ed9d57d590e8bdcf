"""`python -m devcluster.demo up|down`: the first thing a new user runs."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from devcluster.demo import ask, follow, install, model
from devcluster.demo.clusters import DemoCluster, ExistingCluster, cluster_named
from devcluster.demo.failure import DemoFailure
from devcluster.demo.kubectl import Kubectl

NAMESPACE = "modelserver-demo"
SERVER = "quickstart"
# A pod with everything on its node is ready in ~15 s; a hub model over a slow line takes minutes.
READY_SECONDS = 900.0
STEPS = 5

console = Console(soft_wrap=True)


def main() -> int:
    arguments = parser().parse_args()
    try:
        cluster = cluster_named(arguments.cluster)
        up(cluster) if arguments.action == "up" else down(cluster)
    except DemoFailure as failure:
        console.print(f"\n[red]{failure}[/]", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; `make demo` goes on from here, `make demo-down` cleans up")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m devcluster.demo", description=__doc__)
    made.add_argument("action", choices=["up", "down"], help="bring the demo up, or take it away")
    made.add_argument(
        "--cluster",
        default=os.environ.get("CLUSTER", "devcluster"),
        help="devcluster (Kubernetes on this machine), existing (current kubectl context), kind, "
        "k3d; default: $CLUSTER or devcluster",
    )
    return made


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    console.print(f"[bold][{number}/{STEPS}][/] {title}", highlight=False)
    began = time.monotonic()
    yield
    console.print(f"      [green]done[/] in {time.monotonic() - began:.1f} s", highlight=False)


def up(cluster: DemoCluster) -> None:
    with step(1, "Kubernetes"):
        kubectl = cluster.up()
    with step(2, "images of the operator and the runtime"):
        images = cluster.images()
    with step(3, "ModelServer resource, permissions, operator"):
        install.install(kubectl, operator_image=images.operator, runtime_image=images.runtime)
    with step(4, "a model"):
        manifest = prepare_model(kubectl, images.runtime)
    with step(5, f"ModelServer {SERVER}"):
        kubectl.run("-n", NAMESPACE, "apply", "-f", "-", stdin=manifest)
        server = follow.follow_until_ready(
            kubectl, console, namespace=NAMESPACE, name=SERVER, timeout_seconds=READY_SECONDS
        )
    with cluster.service_url(kubectl, NAMESPACE, SERVER) as url:
        text = ask.ask(console, url=url, model=SERVER)
        console.print(f"\n  [bold green]{text}[/]\n", highlight=False)
    say_what_next(cluster, kubectl, str(server["status"].get("url", "")))


def prepare_model(kubectl: Kubectl, runtime_image: str) -> str:
    """The manifest of the quickstart, after what it needs exists."""
    ensure_namespace(kubectl)
    if model.hub_answers():
        console.print("      the model hub answers: a small instruct model is fetched from it")
        return model.example("quickstart-hub.yaml")
    if model.is_trained(kubectl, NAMESPACE):
        console.print("      no model hub from here: the small model trained before is served")
        return model.example("quickstart.yaml")
    console.print("      no model hub from here: a small model is trained in the cluster")
    model.train_in_cluster(kubectl, NAMESPACE, runtime_image)
    return model.example("quickstart.yaml")


def ensure_namespace(kubectl: Kubectl) -> None:
    manifest = (
        f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, "
        "labels: {pod-security.kubernetes.io/enforce: restricted}}}"
    )
    kubectl.run("apply", "--server-side", "-f", "-", stdin=manifest)


def say_what_next(cluster: DemoCluster, kubectl: Kubectl, url: str) -> None:
    lines = (
        ("use kubectl", cluster.how_to_connect(kubectl)),
        ("look", f"kubectl -n {NAMESPACE} get modelservers,pods"),
        ("explain", "kubectl explain modelserver.spec"),
        ("scale", f"kubectl -n {NAMESPACE} scale modelserver/{SERVER} --replicas=2"),
        ("inside the cluster", url),
        ("more", "examples/ and docs/"),
        ("stop", "make demo-down"),
    )
    console.print("[bold]What to try next[/]")
    for title, text in lines:
        console.print(f"  {title:<20}{text}", highlight=False)


def down(cluster: DemoCluster) -> None:
    """Removes the demo; a cluster that is not ours keeps everything else."""
    if isinstance(cluster, ExistingCluster):
        kubectl = cluster.up()
        kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found")
        install.uninstall(kubectl)
    cluster.down()
    console.print("the demo is gone")


if __name__ == "__main__":
    sys.exit(main())
