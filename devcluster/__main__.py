"""The command line: `python -m devcluster --help`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from devcluster import catalog, cluster, extension, finder
from devcluster.console import say
from devcluster.definitions import BundleName, install_definitions
from devcluster.engine import stop_abandoned_engine
from devcluster.envoy_gateway import GATEWAY_CLASS, install_gateway
from devcluster.errors import ClusterStateError, DevclusterError
from devcluster.extension import Extension
from devcluster.image_build import USUAL_PARTS, Part, Variant, build_images, image_specs
from devcluster.image_load import Target, load_images
from devcluster.keda import KEDA
from devcluster.metrics_server import METRICS_SERVER
from devcluster.paths import cache_root, cluster_folder, existing_clusters, state_root
from devcluster.record import Mode

_EXTENSIONS = (METRICS_SERVER, KEDA)
_EPILOG = """\
examples:
  python -m devcluster up                  a Kubernetes with a node, ready for pods (needs root)
  python -m devcluster up --api-only       only the API, in seconds, no root needed
  export KUBECONFIG=$(python -m devcluster kubeconfig)
  python -m devcluster logs kube-apiserver
  python -m devcluster down

folders:
  DEVCLUSTER_HOME   clusters   (default ~/.local/state/modelserver-devcluster)
  DEVCLUSTER_CACHE  programs and image layers, kept between clusters
                    (default ~/.cache/modelserver-devcluster)
  DEVCLUSTER_OFFLINE=1 skips the look whether official releases can be downloaded
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except DevclusterError as e:
        print(f"devcluster: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        say(
            "\nInterrupted. What had started goes on running: the same command again resumes, "
            "`python -m devcluster down` ends it."
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devcluster",
        description="A real Kubernetes on this Linux machine, for the demo and the tests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands)
    _add_down(commands)
    _add_looking(commands)
    _add_build(commands)
    _add_definitions(commands)
    _add_extensions(commands)
    _add_images(commands)
    return parser


type _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  has no public name


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", default="dev", help="which cluster (default: %(default)s)")


def _add_up(commands: _Commands) -> None:
    up = commands.add_parser(
        "up",
        help="bring a cluster up, or start again what died in it",
        description="Bring a cluster up and wait until it is ready. Again is quick: only what does "
        "not run is started. The first time, programs are fetched or compiled (minutes).",
    )
    _add_name(up)
    up.add_argument("--api-only", action="store_true", help="etcd and API server, no node, no root")
    up.add_argument(
        "--controllers",
        action="store_true",
        help="with --api-only: also the controller manager (garbage collection, namespaces, "
        "Deployments without pods)",
    )
    up.set_defaults(run=_up)


def _add_down(commands: _Commands) -> None:
    down = commands.add_parser("down", help="end a cluster and remove everything of it")
    _add_name(down)
    down.add_argument("--all", action="store_true", help="every cluster of DEVCLUSTER_HOME")
    down.set_defaults(run=_down)


def _add_looking(commands: _Commands) -> None:
    status = commands.add_parser("status", help="which programs run; status 1 if one does not")
    _add_name(status)
    status.set_defaults(run=_status)
    logs = commands.add_parser("logs", help="show the log of one program")
    _add_name(logs)
    logs.add_argument("program", help="as `status` names it, or `audit`", metavar="PROGRAM")
    logs.add_argument("--follow", "-f", action="store_true", help="go on with what is added")
    logs.set_defaults(run=_logs)
    kubeconfig = commands.add_parser("kubeconfig", help="print the path of the admin's kubeconfig")
    _add_name(kubeconfig)
    kubeconfig.set_defaults(run=_kubeconfig)


def _add_build(commands: _Commands) -> None:
    build = commands.add_parser(
        "build",
        help="only find, fetch or compile the programs",
        description=f"Put programs into {cache_root() / 'programs'}, so that `up` is quick.",
    )
    build.add_argument(
        "programs",
        nargs="*",
        metavar="PROGRAM",
        help="default: all that a cluster needs; keda: all of KEDA. "
        + ", ".join(catalog.KNOWN_PROGRAMS),
    )
    build.set_defaults(run=_build)


def _add_definitions(commands: _Commands) -> None:
    install = commands.add_parser(
        "install-definitions",
        help="install the definitions (CRDs) of other projects, such as Istio",
        description="Install definitions of other projects, so that the operator finds them and "
        "the API server checks its routes. Nothing runs that would carry the routes out.",
    )
    _add_name(install)
    install.add_argument(
        "bundles",
        nargs="+",
        type=BundleName,
        choices=list(BundleName),
        metavar="BUNDLE",
        help=", ".join(BundleName),
    )
    install.set_defaults(run=_install_definitions)
    gateway = commands.add_parser(
        "install-gateway",
        help="run Envoy Gateway in a cluster with a node",
        description="Install the Gateway API with Envoy Gateway, which carries its routes out. The "
        f"first time it is compiled (minutes). Gateways of the class {GATEWAY_CLASS} are its own.",
    )
    _add_name(gateway)
    gateway.set_defaults(run=_install_gateway)


def _add_extensions(commands: _Commands) -> None:
    for one in _EXTENSIONS:
        install = commands.add_parser(
            f"install-{one.name}",
            help=f"run {one.name} in a cluster with a node",
            description=f"Install {one.name} {one.module.version} by its own manifests, and wait"
            f" until {one.api} is answered. The first time it is compiled (minutes).",
        )
        _add_name(install)
        install.set_defaults(run=_install_extension, extension=one)
        remove = commands.add_parser(
            f"remove-{one.name}",
            help=f"take {one.name} out of a cluster",
            description=f"Remove all that install-{one.name} has made, its definitions first.",
        )
        _add_name(remove)
        remove.set_defaults(run=_remove_extension, extension=one)


def _add_images(commands: _Commands) -> None:
    images = commands.add_parser(
        "images",
        help="build the project's images",
        description="Build the images of operator and runtime and print their names. The tag is a "
        "hash of all that goes in: what has not changed is not built again.",
    )
    images.add_argument(
        "parts",
        nargs="*",
        type=Part,
        metavar="PART",
        help="operator, runtime (default: both), gateway",
    )
    images.add_argument("--print", action="store_true", help="only print the names, build nothing")
    images.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.CPU)
    images.add_argument(
        "--torch-index",
        default="",
        metavar="URL",
        help="index with CPU-only wheels of torch: 5 GB less, where it can be reached",
    )
    images.set_defaults(run=_images)
    load = commands.add_parser(
        "load-image",
        help="put images into a cluster",
        description="Copy images from Docker, or from what `images` built, into a cluster's node. "
        "Layers that the node has are not copied again.",
    )
    _add_name(load)
    load.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="default: the project's images, built before if they have changed",
    )
    load.add_argument(
        "--to",
        type=Target,
        choices=list(Target),
        default=Target.NODE,
        help="node: a cluster of `up` (default); docker: only check that Docker has them; "
        "kind, k3d: by their own commands (not yet run)",
    )
    load.set_defaults(run=_load_image)


def _up(options: argparse.Namespace) -> int:
    mode = Mode.API_ONLY if options.api_only else Mode.NODE
    up = cluster.up(options.name, mode=mode, controllers=options.controllers)
    say(f"The cluster {up.name} is ready: export KUBECONFIG={up.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    names = [folder.name for folder in existing_clusters()] if options.all else [options.name]
    for name in names:
        if not cluster.down(name):
            say(f"There is no cluster {name} in {state_root()}: nothing to do")
    stop_abandoned_engine()
    return 0


def _status(options: argparse.Namespace) -> int:
    status = cluster.status(options.name)
    print(f"{status.name}: {status.mode}, {status.server}")
    for program in status.programs:
        print(f"  {program.program:<26} {program.pid or 'does not run'}")
    if status.problem:
        print(status.problem)
    ended = any(program.pid is None for program in status.programs)
    return 1 if ended or status.problem else 0


def _logs(options: argparse.Namespace) -> int:
    folder = cluster_folder(options.name)
    log = folder.audit_log if options.program == "audit" else folder.log(options.program)
    if not log.exists():
        logs = sorted(path.stem for path in folder.logs.glob("*.*"))
        known = ", ".join(logs) or "none: the cluster is not up"
        raise ClusterStateError(f"{log} does not exist; logs of {options.name}: {known}")
    follow = ["-f"] if options.follow else []
    return subprocess.run(["tail", "-n", "+1", *follow, log], check=False).returncode


def _kubeconfig(options: argparse.Namespace) -> int:
    print(cluster.existing(options.name).kubeconfig)
    return 0


def _build(options: argparse.Namespace) -> int:
    wanted = [one for name in options.programs for one in catalog.programs_of(name)]
    unknown = sorted(set(wanted) - set(catalog.KNOWN_PROGRAMS))
    if unknown:
        known = ", ".join(catalog.KNOWN_PROGRAMS)
        raise ClusterStateError(
            f"{', '.join(unknown)} is no program of the cluster; known: {known}"
        )
    for path in finder.find_programs(wanted or catalog.ALL_PROGRAMS).values():
        print(path)
    return 0


def _install_definitions(options: argparse.Namespace) -> int:
    install_definitions(cluster.existing(options.name), options.bundles)
    say(f"The cluster {options.name} has the definitions of {', '.join(options.bundles)}")
    return 0


def _install_gateway(options: argparse.Namespace) -> int:
    install_gateway(cluster.existing(options.name))
    say(f"The cluster {options.name} carries out Gateways of the class {GATEWAY_CLASS}")
    return 0


def _install_extension(options: argparse.Namespace) -> int:
    wanted: Extension = options.extension
    extension.install(cluster.existing(options.name), wanted)
    say(f"The cluster {options.name} has {wanted.name} {wanted.module.version}")
    return 0


def _remove_extension(options: argparse.Namespace) -> int:
    extension.remove(cluster.existing(options.name), options.extension)
    say(f"The cluster {options.name} has no {options.extension.name}")
    return 0


def _images(options: argparse.Namespace) -> int:
    specs = image_specs(
        options.parts or USUAL_PARTS, variant=options.variant, torch_index=options.torch_index
    )
    names = [spec.name() for spec in specs] if options.print else build_images(specs)
    print("\n".join(names))
    return 0


def _load_image(options: argparse.Namespace) -> int:
    in_docker = options.to is not Target.NODE
    names = options.images or build_images(image_specs(), in_docker=in_docker)
    load_images(names, target=options.to, cluster=options.name)
    print("\n".join(names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
