"""Variables that look like settings and are none: a misspelt one would be ignored silently."""

import re
from collections.abc import Iterable, Mapping

from modelserver_runtime.settings.names import OLDER_PREFIX, PREFIX, advice, variables_of

# Kubernetes sets these for every Service of a namespace, and one may be called modelserver-x.
_SERVICE_LINK = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)


def unknown_variables(environment: Mapping[str, str], fields: Iterable[str]) -> list[str]:
    """A sentence for each variable with one of our prefixes that sets nothing."""
    known = {name for field in fields for name in variables_of(field)}
    strangers = sorted(name for name in environment if _is_stranger(name, known))
    return [f"{name} is no setting; {_advice(name, known)}" for name in strangers]


def _is_stranger(name: str, known: set[str]) -> bool:
    if name in known or not name.startswith((PREFIX, OLDER_PREFIX)):
        return False
    return not _SERVICE_LINK.search(name)


def _advice(name: str, known: set[str]) -> str:
    """Compared without the prefix, which all names share and which would make all alike."""
    prefix = PREFIX if name.startswith(PREFIX) else OLDER_PREFIX
    rest = name.removeprefix(prefix)
    return advice(rest, [one.removeprefix(prefix) for one in known]).replace(
        "did you mean ", f"did you mean {prefix}"
    )
