"""How a setting is called by each source: flag, variables, key of the file."""

import difflib
from collections.abc import Iterable

PREFIX = "MODELSERVER_"
# What the server was called before: the same settings, read where the newer name is not set.
OLDER_PREFIX = "HF_SERVER_"
# A name that the model hub's own tools have given it, so that one variable serves them all.
_GIVEN = {"hf_token": "HF_TOKEN"}
# Variables of a standard, which are read last.
STANDARD = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return _GIVEN.get(field.lower(), PREFIX + field.upper())


def variables_of(field: str) -> tuple[str, ...]:
    """All variables of a field; the first that is set and not empty wins."""
    if field in _GIVEN:
        return (_GIVEN[field],)
    names = (variable_of(field), OLDER_PREFIX + field.upper())
    return (*names, STANDARD[field]) if field in STANDARD else names


def advice(name: str, known: Iterable[str]) -> str:
    """What was probably meant instead of a name that does not exist."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else "it has no effect"
