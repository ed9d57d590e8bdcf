"""A Kubernetes API that knows one ModelServer and its pods, and never has any news."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import orjson

NAMESPACE, NAME = "bench", "bench"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_VERSION = {"resourceVersion": "1"}


@contextlib.asynccontextmanager
async def a_cluster(ports: Sequence[int]) -> AsyncIterator[str]:
    """The URL of its API; the server's pods are at these ports of this machine."""
    lists = {
        b"modelservers": _list(_server()),
        b"endpointslices": _list(*(_slice(port) for port in ports)),
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            target = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
            path, _, query = target.partition(b"?")
            content = lists[path.rpartition(b"/")[2]]
            if b"watch=true" in query:
                writer.write(_HEAD + b"transfer-encoding: chunked\r\n\r\n")
                await reader.read()
            else:
                writer.write(_HEAD + b"content-length: %d\r\n\r\n%b" % (len(content), content))
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _list(*items: object) -> bytes:
    return orjson.dumps({"metadata": _VERSION, "items": items})


def _server() -> object:
    metadata = {"namespace": NAMESPACE, "name": NAME, **_VERSION}
    return {"metadata": metadata, "spec": {}, "status": {"servingRevision": "a1b2c3d4"}}


def _slice(port: int) -> object:
    labels = {
        "modelserver.dev/server": NAME,
        "kubernetes.io/service-name": NAME,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return {
        "metadata": {
            "namespace": NAMESPACE,
            "name": f"{NAME}-{port}",
            "labels": labels,
            **_VERSION,
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
