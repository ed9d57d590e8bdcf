"""The gateway runs where only its own libraries are: those of its image."""

import ast
import sys
import tomllib
from pathlib import Path

from support.manifests import REPOSITORY

PACKAGE = "modelserver_runtime"
SOURCE = REPOSITORY / "runtime"
# What it begins with, and what it imports when it is chosen.
BEGINNINGS = (
    f"{PACKAGE}.__main__",
    f"{PACKAGE}.gateway.process",
    f"{PACKAGE}.gateway.front.process",
    f"{PACKAGE}.access.tokens",
    f"{PACKAGE}.access.issuer_keys",
)
# As they are imported, by the names they are installed under.
INSTALLED_AS = {"jwt": "pyjwt", "yaml": "pyyaml", "cryptography": "pyjwt", "starlette": "fastapi"}


def file_of(module):
    path = SOURCE / Path(*module.split("."))
    for found in (path / "__init__.py", path.with_suffix(".py")):
        if found.is_file():
            return found
    return None


def imported(module):
    """What is imported as the module is; not inside of functions."""
    tree = ast.parse(file_of(module).read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached():
    """Our modules that are loaded, and the libraries."""
    waiting, seen, libraries = list(BEGINNINGS), set(), {}
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imported(module):
            parts = name.split(".")
            if parts[0] != PACKAGE:
                libraries.setdefault(parts[0], module)
                continue
            packages = (".".join(parts[: end + 1]) for end in range(len(parts)))
            waiting += [one for one in packages if file_of(one)]
    return seen, libraries


def declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["gateway"]
    return {line.partition(">")[0].partition("[")[0] for line in extra}


def test_every_library_that_it_loads_is_one_of_its_own():
    seen, libraries = reached()
    assert f"{PACKAGE}.gateway.front.exchange" in seen
    used = {INSTALLED_AS.get(name, name.replace("_", "-")): by for name, by in libraries.items()}
    foreign = {name: by for name, by in used.items() if name not in sys.stdlib_module_names}
    assert {name: by for name, by in foreign.items() if name not in declared()} == {}
    assert not declared() & {"torch", "transformers", "fastapi", "numpy"}
