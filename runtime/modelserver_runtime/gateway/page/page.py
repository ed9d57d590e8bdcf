"""What is behind each path of the page.

GET /                     the page: public, and without a model where keys are needed
GET /page/FILE            its style, script and icon: public
GET /page/overview        the models as they are now, a piece of HTML
GET /page/keys            all keys, a piece of HTML: for administrators, as what follows
POST /page/keys           makes one
POST /page/keys/ID/revoke ends one
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from modelserver_runtime.access.principal import Scope
from modelserver_runtime.errors import ResourceNotFound
from modelserver_runtime.gateway.cluster import Directory, ServedModel
from modelserver_runtime.gateway.page.desk import KeyDesk, KeyTable
from modelserver_runtime.gateway.page.kept import Kept
from modelserver_runtime.gateway.page.overview import (
    Filter,
    Looker,
    Overview,
    Sight,
    overview_of,
)
from modelserver_runtime.gateway.page.rendering import Templates, read_assets
from modelserver_runtime.gateway.traffic import Traffic

type Pairs = list[tuple[bytes, bytes]]

_HOME = "/"
_BELOW = "/page/"
_OVERVIEW, _KEYS, _REVOKE = "overview", "keys", "/revoke"
_READING = frozenset({"GET", "HEAD"})
# Nothing but our own files and our own routes; nothing inline.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OK, _NOT_MODIFIED = 200, 304


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as the page needs it; `known_tag` is what the browser has already."""

    method: str
    path: str
    query: str = ""
    known_tag: str = ""
    body: bytes = b""

    @property
    def name(self) -> str:
        return self.path.removeprefix(_BELOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    status: int
    headers: Pairs
    content: bytes


class Stages(Protocol):
    def stage(self, model: ServedModel) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the page has it all from; `wall_clock` gives Unix time."""

    directory: Callable[[], Directory]
    problems: Callable[[], Sequence[str]]
    stages: Stages
    traffic: Traffic
    wall_clock: Callable[[], float]
    replica: str

    def sight(self) -> Sight:
        return Sight(
            directory=self.directory(),
            stage=self.stages.stage,
            recent=self.traffic.recent,
            now=self.wall_clock(),
            problems=self.problems(),
            replica=self.replica,
        )


class Page:
    """`needs_keys`: without a key nothing about a model is shown."""

    def __init__(self, sources: Sources, desk: KeyDesk, *, needs_keys: bool) -> None:
        self._sources = sources
        self._desk = desk
        self._needs_keys = needs_keys
        self._templates = Templates()
        self._assets = read_assets()
        self._kept = Kept(sources.traffic.clock)

    def has(self, method: str, path: str) -> bool:
        return path.startswith(_BELOW) or (path == _HOME and method in _READING)

    def scope(self, asked: Asked) -> Scope | None:
        """What a key needs; None where none is needed."""
        if asked.path == _HOME or asked.name in self._assets:
            return None
        is_of_keys = asked.name == _KEYS or asked.name.startswith(f"{_KEYS}/")
        return Scope.ADMIN if is_of_keys else Scope.INFERENCE

    async def show(self, asked: Asked, looker: Looker) -> Shown:
        """For who may see it. Raises RequestFailure."""
        if asked.method in _READING:
            return await self._read(asked, looker)
        if asked.method == "POST" and asked.name == _KEYS:
            return self._keys(await self._desk.make(asked.body))
        if asked.method == "POST" and asked.name.endswith(_REVOKE):
            key_id = asked.name.removeprefix(f"{_KEYS}/").removesuffix(_REVOKE)
            return self._keys(await self._desk.revoke(key_id))
        raise _no_such(asked)

    async def _read(self, asked: Asked, looker: Looker) -> Shown:
        if asked.path == _HOME:
            return await self._home(looker)
        if asked.name == _OVERVIEW:
            return await self._overview(looker, Filter.of(asked.query))
        if asked.name == _KEYS:
            return self._keys(await self._desk.table())
        return self._asset(asked)

    async def _home(self, looker: Looker) -> Shown:
        def make() -> bytes:
            seen = None if self._needs_keys else self._seen(looker, Filter())
            return self._templates.render("page.html", seen=seen, needs_key=self._needs_keys)

        return _html(await self._kept.get(_HOME, make))

    async def _overview(self, looker: Looker, wanted: Filter) -> Shown:
        def make() -> bytes:
            return self._templates.render("overview.html", seen=self._seen(looker, wanted))

        return _html(await self._kept.get((looker.rights, wanted), make))

    def _seen(self, looker: Looker, wanted: Filter) -> Overview:
        return overview_of(self._sources.sight(), looker, wanted)

    def _keys(self, table: KeyTable) -> Shown:
        return _html(self._templates.render("keys.html", table=table))

    def _asset(self, asked: Asked) -> Shown:
        asset = self._assets.get(asked.name)
        if asset is None:
            raise _no_such(asked)
        headers = [(b"etag", asset.tag.encode()), (b"cache-control", b"no-cache")]
        if asked.known_tag == asset.tag:
            return Shown(status=_NOT_MODIFIED, headers=headers, content=b"")
        headers.append((b"content-type", asset.kind.encode()))
        return Shown(status=_OK, headers=headers, content=asset.content)


def _html(content: bytes) -> Shown:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", _POLICY),
        (b"cache-control", b"no-store"),
    ]
    return Shown(status=_OK, headers=headers, content=content)


def _no_such(asked: Asked) -> ResourceNotFound:
    return ResourceNotFound(f"The page has no {asked.method} {asked.path}; it begins at /")
