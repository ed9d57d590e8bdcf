"""Templates and static files of the page, read once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).parent
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content: bytes
    kind: str
    tag: str


class Templates:
    """Whatever comes from the cluster is escaped; a name that a template has wrong is an error."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def render(self, name: str, **values: Any) -> bytes:
        return self._environment.get_template(name).render(**values).encode()


def read_assets() -> Mapping[str, Asset]:
    """By file name. Not kept by browsers without asking: replicas may be of two versions."""
    return {path.name: _asset(path) for path in sorted((_HERE / "static").iterdir())}


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return Asset(content=content, kind=_KINDS[path.suffix], tag=tag)
