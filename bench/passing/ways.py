"""The ways to the same upstream: straight, and through each proxy as a process of its own."""

import asyncio
import contextlib
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.environments import environment
from bench.fronting.serving import ServerFailed
from bench.passing.cluster import a_cluster
from bench.passing.load import Address, answers_once
from bench.serving.model_folder import cache_folder
from bench.serving.processes import running

_LISTENING = re.compile(r"^Listening on http://([^:\s]+):(\d+)", re.MULTILINE)
# LiteLLM imports for half a minute on a small machine.
_START_SECONDS = 180.0
_HOST = "127.0.0.1"
_MANY = 100_000  # of what Envoy bounds to 1,024 by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`pid` is the process whose CPU time and memory are read."""

    name: str
    address: Address
    pid: int


@contextlib.asynccontextmanager
async def an_upstream(*module: str) -> AsyncIterator[Way]:
    """`python -m` of it; `direct` is the way to it."""
    command = [sys.executable, "-m", *(module or ("bench.passing.upstream",))]
    async with _listening("direct", command) as way:
        yield way


@contextlib.asynccontextmanager
async def our_gateway(ports: Sequence[int], *flags: str, name: str = "ours") -> AsyncIterator[Way]:
    """In front of one ModelServer with pods at these ports; nobody is limited."""
    async with a_cluster(ports) as url:
        arguments = [
            *("-m", "modelserver_runtime", "gateway", "--cluster", "--port", "0"),
            *("--admin-port", "0", "--host", _HOST, "--kubernetes-url", url),
            *("--kubernetes-token-file", "/dev/null", "--lame-duck-seconds", "0"),
            *("--client-requests-per-minute", "0", *flags),
        ]
        async with _listening(name, [sys.executable, *arguments]) as way:
            yield way


@contextlib.asynccontextmanager
async def envoy(ports: Sequence[int]) -> AsyncIterator[Way]:
    """As a plain proxy with one worker, which asks the upstreams in turns."""
    program = next(environment("envoy").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    port = _free_port()
    path = _written("envoy.json", _envoy_configuration(port, ports))
    command = [str(program), "--concurrency", "1", "-c", str(path), "--log-level", "error"]
    async with _at_port("envoy", [*command, "--use-dynamic-base-id"], port) as way:
        yield way


@contextlib.asynccontextmanager
async def litellm(ports: Sequence[int]) -> AsyncIterator[Way]:
    """Its proxy with one worker, without a database and without keys."""
    program = environment("litellm") / "bin" / "litellm"
    port = _free_port()
    path = _written("litellm.json", _litellm_configuration(ports))
    command = [str(program), "--config", str(path), "--host", _HOST, "--port", str(port)]
    environ = {
        # Its list of prices comes with it and is not fetched.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # As ours here, it asks nobody for a key.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    flags = ["--num_workers", "1", "--telemetry", "False"]
    async with _at_port("litellm", [*command, *flags], port, environ) as way:
        yield way


def _envoy_configuration(port: int, upstreams: Sequence[int]) -> object:
    route = {"cluster": "upstream", "timeout": "0s"}
    routes = [{"match": {"prefix": "/"}, "route": route}]
    manager = {
        "@type": _envoy_type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": _envoy_type("filters.http.router.v3.Router")},
            }
        ],
    }
    filters = [{"name": "http", "typed_config": manager}]
    limits = {"max_connections": _MANY, "max_pending_requests": _MANY, "max_requests": _MANY}
    endpoints = [{"endpoint": {"address": _envoy_address(one)}} for one in upstreams]
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"address": _envoy_address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _envoy_address(port: int) -> object:
    return {"socket_address": {"address": _HOST, "port_value": port}}


def _litellm_configuration(upstreams: Sequence[int]) -> object:
    """JSON is YAML, too."""
    models = [
        {
            "model_name": "bench",
            "litellm_params": {
                "model": "openai/bench",
                "api_base": f"http://{_HOST}:{port}/v1",
                "api_key": "sk-bench",
            },
        }
        for port in upstreams
    ]
    return {"model_list": models, "litellm_settings": {"num_retries": 0}}


# -- processes ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _listening(name: str, command: Sequence[str]) -> AsyncIterator[Way]:
    """One that says where it listens."""
    log = _log(name)
    async with running(command, environment=_environment({}), log=log) as child:
        async with _time_to_start(name, log):
            while not (found := _LISTENING.search(log.read_text(errors="replace"))):
                _require_alive(child, name, log)
                await asyncio.sleep(0.05)
            address = (found[1], int(found[2]))
            await _until_answered(child, name, address, log)
        yield Way(name=name, address=address, pid=child.pid)


@contextlib.asynccontextmanager
async def _at_port(
    name: str, command: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Way]:
    """One that was told where to listen."""
    log = _log(name)
    async with running(command, environment=_environment(environment or {}), log=log) as child:
        async with _time_to_start(name, log):
            await _until_answered(child, name, (_HOST, port), log)
        yield Way(name=name, address=(_HOST, port), pid=child.pid)


async def _until_answered(
    child: asyncio.subprocess.Process, name: str, address: Address, log: Path
) -> None:
    while not await answers_once(address):
        _require_alive(child, name, log)
        await asyncio.sleep(0.2)


def _require_alive(child: asyncio.subprocess.Process, name: str, log: Path) -> None:
    if child.returncode is not None:
        raise ServerFailed(f"{name} ended with {child.returncode}; the end of {log}:\n{_end(log)}")


@contextlib.asynccontextmanager
async def _time_to_start(name: str, log: Path) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_START_SECONDS):
            yield
    except TimeoutError as error:
        raise ServerFailed(
            f"{name} did not answer within {_START_SECONDS:g} s; the end of {log}:\n{_end(log)}"
        ) from error


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's own settings, and nothing to say about what goes well."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("MODELSERVER_")
    }
    return {**kept, "MODELSERVER_LOG_LEVEL": "warning", **more}


def _log(name: str) -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"gateway-{name}.log"


def _written(name: str, content: object) -> Path:
    path = cache_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listening:
        return int(listening.getsockname()[1])
