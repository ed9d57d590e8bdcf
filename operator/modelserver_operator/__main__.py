"""`modelserver-operator`: the process of the operator."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import uvloop

from modelserver_operator.cluster.access import Access, find_access
from modelserver_operator.cluster.checks import CheckProbe
from modelserver_operator.cluster.client import ApiClient
from modelserver_operator.cluster.measuring import MeasuringProbe
from modelserver_operator.cluster.mounts import MountProbe
from modelserver_operator.cluster.progress import ProgressProbe, open_probe_session
from modelserver_operator.cluster.prometheus import Prometheus
from modelserver_operator.cluster.readings import ReadingProbe
from modelserver_operator.cluster.scaling_readings import ScalingProbe
from modelserver_operator.cluster.transport import Transport
from modelserver_operator.config import OperatorConfig
from modelserver_operator.errors import InvalidConfiguration
from modelserver_operator.handlers import ModelServerWatch
from modelserver_operator.reconciler.reconciler import Probes
from modelserver_operator.reconciler.replica import Replica
from modelserver_operator.telemetry.logs import configure_logging
from modelserver_operator.telemetry.metrics import Gauges, Metrics
from modelserver_operator.telemetry.server import health, metrics, serving

DESCRIPTION = """Watches ModelServers and keeps their child objects right.

Settings are environment variables MODELSERVER_OPERATOR_*; docs/operations.md lists them."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="modelserver-operator",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the operator until SIGTERM")
    run.add_argument(
        "--kubeconfig",
        default=os.environ.get("KUBECONFIG", ""),
        help="outside a pod: the file with the way to the API server (default: $KUBECONFIG)",
    )
    options = parser.parse_args(arguments)
    try:
        config = OperatorConfig.from_environment()
        access = find_access(os.environ, options.kubeconfig)
    except InvalidConfiguration as failure:
        print(f"modelserver-operator: {failure}", file=sys.stderr)
        return 2
    config = replace(config, identity=config.identity or socket.gethostname())
    configure_logging(level=config.log_level, form=config.log_format)
    uvloop.run(operate(config, access))
    return 0


async def operate(config: OperatorConfig, access: Access) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    measured = Metrics()
    async with Transport(access, measured.request) as transport, open_probe_session() as pods:
        client = ApiClient(transport)
        replica = Replica(client, _probes(client, pods, config), config, measured, _now)
        watch = ModelServerWatch(
            access, client, replica, measured.request, namespaces=config.namespaces
        )
        async with _telemetry(config, replica, measured), asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            await replica.run(stop)
            watching.cancel()


def _probes(client: ApiClient, pods: aiohttp.ClientSession, config: OperatorConfig) -> Probes:
    prometheus = Prometheus(pods, config.prometheus_url)
    checks = CheckProbe(pods, prometheus=prometheus, cluster_domain=config.cluster_domain)
    return Probes(
        progress=ProgressProbe(pods),
        mounts=MountProbe(client),
        readings=ReadingProbe(pods),
        checks=checks,
        measuring=MeasuringProbe(prometheus),
        scaling=ScalingProbe(pods, prometheus, _now),
    )


@asynccontextmanager
async def _telemetry(
    config: OperatorConfig, replica: Replica, measured: Metrics
) -> AsyncIterator[None]:
    gauges = Gauges()
    replica.show(gauges)
    measured.show(gauges)
    probes = {"/livez": health(replica.not_alive), "/readyz": health(replica.not_ready)}
    async with (
        serving(probes, config.probe_port),
        serving({"/metrics": metrics(measured.registry)}, config.metrics_port),
    ):
        yield


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
