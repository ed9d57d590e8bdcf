"""The scripts of `manifests/argocd`, run in a real Lua 5.1 that has as little as Argo CD's.

Argo CD opens the base, package and table libraries, and hands in `obj` and `actionParams`; a
script that needs `string` works in every other Lua and fails there.
"""

import functools
from dataclasses import dataclass
from typing import Any

import yaml
from lupa import lua51

from support.manifests import REPOSITORY

type Manifest = dict[str, Any]

CONFIG_MAP = REPOSITORY / "manifests" / "argocd" / "argocd-cm.yaml"
COMMAND = "modelserver.dev/command"
HEALTH = "resource.customizations.health.modelserver.dev_ModelServer"
ACTIONS = "resource.customizations.actions.modelserver.dev_ModelServer"

_MISSING_LIBRARIES = ("string", "math", "io", "os", "debug", "coroutine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    health: str
    discovery: str
    actions: dict[str, str]


@functools.cache
def scripts() -> Scripts:
    data = yaml.safe_load(CONFIG_MAP.read_text())["data"]
    assert set(data) == {HEALTH, ACTIONS}
    actions = yaml.safe_load(data[ACTIONS])
    assert set(actions) == {"discovery.lua", "definitions"}
    return Scripts(
        health=data[HEALTH],
        discovery=actions["discovery.lua"],
        actions={one["name"]: one["action.lua"] for one in actions["definitions"]},
    )


def health_of(manifest: Manifest) -> tuple[str, str]:
    """Argo CD's word for it, and the message beside it."""
    found = run(scripts().health, manifest)
    assert set(found) == {"status", "message"}
    return found["status"], found["message"]


def actions_of(manifest: Manifest) -> dict[str, Manifest]:
    return run(scripts().discovery, manifest)


def possible_actions(manifest: Manifest) -> set[str]:
    return {name for name, action in actions_of(manifest).items() if not action["disabled"]}


def changed_by(action: str, manifest: Manifest, **parameters: str) -> Manifest:
    """What Argo CD sends to the API server."""
    return run(scripts().actions[action], manifest, parameters)


def run(script: str, manifest: Manifest, parameters: dict[str, str] | None = None) -> Manifest:
    lua = _interpreter()
    lua.globals().obj = _to_lua(lua, manifest)
    lua.globals().actionParams = _to_lua(lua, parameters or {})
    return _from_lua(lua.execute(script), manifest)


@functools.cache
def _interpreter() -> lua51.LuaRuntime:
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute('debug.setmetatable("", nil)')  # ("x"):upper() is string.upper in disguise
    for library in _MISSING_LIBRARIES:
        lua.globals()[library] = None
    lua.globals().python = None
    return lua


def _to_lua(lua: lua51.LuaRuntime, value: Any) -> Any:
    """As Argo CD does: null becomes nil, which a table does not hold."""
    if isinstance(value, dict):
        return lua.table_from({key: _to_lua(lua, one) for key, one in value.items()})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, one) for one in value if one is not None])
    return value


def _from_lua(value: Any, was: Any) -> Any:
    """Lua has one kind of empty table; Argo CD takes it for what was there before."""
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if not keys:
        return {} if isinstance(was, dict) else []
    if keys == list(range(1, len(keys) + 1)):
        before = was if isinstance(was, list) else []
        return [_from_lua(value[key], _at(before, key - 1)) for key in keys]
    before = was if isinstance(was, dict) else {}
    return {key: _from_lua(value[key], before.get(key)) for key in keys}


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None
