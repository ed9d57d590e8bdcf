"""Imports the core of transformers without what a server never asks of torch.

The compiler, tensors that lie on several machines and flexible attention bring in the inductor
and nine hundred other modules: a third of all that a start computes. transformers
imports them to mark functions for the compiler and to know types. So while its core is imported a
stand-in, whose marks mark nothing, has the place of the compiler, and transformers' own probes
say that the rest is not there, as on builds of torch without it. Who wants the compiler later (the
code of a model's author, for example) gets the real one.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
# Has nothing to do with compiling; the masks of attention need it.
_NOT_COMPILING = f"{_COMPILER}._trace_wrapped_higher_order_op"
_MARKS = ("disable", "allow_in_graph", "assume_constant_result")
_PROBES = ("is_torch_distributed_available", "is_torch_flex_attn_available")
# What imports the compiler, directly or not.
_CORE = ("modeling_utils", "generation", "masking_utils", "cache_utils")


@cache
def import_transformers() -> None:
    """Once per process, before anything else imports transformers."""
    import transformers.utils.import_utils as probes  # noqa: PLC0415  takes seconds
    from transformers import utils  # noqa: PLC0415

    _scan_models_once(probes)
    with _answering_no(probes), _answering_no(utils), without_compiler():
        for name in _CORE:
            importlib.import_module(f"transformers.{name}")


@contextmanager
def _answering_no(module: Any) -> Iterator[None]:
    """Models that are imported afterwards hear the truth: some have no way without it."""
    real = {name: getattr(module, name) for name in _PROBES}
    for name in _PROBES:
        setattr(module, name, _no)
    try:
        yield
    finally:
        for name, probe in real.items():
            setattr(module, name, probe)


def _no() -> bool:
    return False


def _scan_models_once(probes: Any) -> None:
    """transformers reads the source of all its models to know their names, twice."""
    scan = probes.create_import_structure_from_path
    folder = Path(probes.__file__).parents[1] / "models"

    def scan_once(path: str | Path) -> Any:
        # The first scan was kept for this folder as a Path; the second asks by its __init__.py.
        return scan(folder if Path(path) == folder / "__init__.py" else path)

    probes.create_import_structure_from_path = scan_once


@contextmanager
def without_compiler() -> Iterator[None]:
    """Also for loading: torch's Python code for tensors without memory asks for its marks, too."""
    if _COMPILER in sys.modules:
        yield
        return
    stand_in, keeper = _StandIn(), _Gatekeeper()
    sys.modules[_COMPILER] = stand_in
    sys.meta_path.insert(0, keeper)
    try:
        yield
    finally:
        sys.meta_path.remove(keeper)
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


class _StandIn(ModuleType):
    """Gives way to the real compiler, for good, as soon as more than a mark is asked of it."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.__spec__ = importlib.util.find_spec(_COMPILER)
        if self.__spec__ is not None:
            self.__path__ = list(self.__spec__.submodule_search_locations or ())
        for mark in _MARKS:
            setattr(self, mark, _unmarked)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real_compiler(), name)


def _unmarked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """The function as it is, or a decorator that leaves it so."""
    return _unmarked if function is None else function


def _real_compiler() -> ModuleType:
    if isinstance(sys.modules.get(_COMPILER), _StandIn):
        del sys.modules[_COMPILER]
    return importlib.import_module(_COMPILER)


class _Gatekeeper(MetaPathFinder):
    """Who imports a module of the compiler needs the real one, which comes before its modules."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        is_inside = fullname.startswith(f"{_COMPILER}.") and fullname != _NOT_COMPILING
        if not is_inside or not isinstance(sys.modules.get(_COMPILER), _StandIn):
            return None
        _real_compiler()
        module = sys.modules.get(fullname)
        # It has come along; whoever looks for it must not run it a second time.
        return None if module is None else ModuleSpec(fullname, _Present(module))


class _Present(Loader):
    """Of a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, _: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
