"""A model hub in one process, with the failures of real ones.

In a test: `with a_hub() as hub: hub.commit("org/name", {"config.json": b"{}"})`, then `hub.url`.
In a pod:  `python -m support.hub --dir DIR --port 8000`, where DIR/org/name holds files; faults are
set by POSTing a JSON list of Fault fields to /_faults, and lifted by DELETE.

Needs the standard library only.
"""

import argparse
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from support.hub_api import HubServer
from support.hub_contents import HubState


class Hub(HubState):
    """A hub that listens."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self._address = (host, port)
        self._server: HubServer | None = None

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self.port}"

    def start(self) -> None:
        """Also after `stop`, on the same port."""
        self.released.clear()
        self._server = HubServer(self._address, self)
        self._address = (self._address[0], self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Connections are refused from now on."""
        server, self._server = self._server, None
        if server is not None:
            self.released.set()
            server.shutdown()
            server.server_close()
            server.close_connections()


@contextlib.contextmanager
def a_hub() -> Iterator[Hub]:
    hub = Hub()
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


def load_directory(hub: Hub, directory: Path) -> None:
    """Takes every DIR/organisation/name as a repository with one commit."""
    for folder in sorted(directory.glob("*/*")):
        if folder.is_dir() and not folder.name.startswith("."):
            files = {
                path.relative_to(folder).as_posix(): path
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            hub.commit(folder.relative_to(directory).as_posix(), files)


def main() -> None:
    parser = argparse.ArgumentParser(prog="support.hub", description="A model hub for tests.")
    parser.add_argument("--dir", type=Path, required=True, help="holds organisation/name folders")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token", action="append", default=[], help="a token that is accepted")
    parser.add_argument("--gated", action="append", default=[], help="a gated repository")
    parser.add_argument("--private", action="append", default=[], help="a private repository")
    options = parser.parse_args()
    hub = Hub(host=options.host, port=options.port)
    load_directory(hub, options.dir)
    hub.tokens = hub.accepted_licences = set(options.token)
    for name in options.gated:
        hub.repositories[name].gated = True
    for name in options.private:
        hub.repositories[name].private = True
    hub.start()
    print(f"Serving {sorted(hub.repositories)} on {hub.url}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
