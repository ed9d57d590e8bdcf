"""The reference of all settings: what `make reference` writes to docs/settings.md."""

import sys
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from modelserver_runtime.settings.concerns import Concern, concerns_of, is_secret
from modelserver_runtime.settings.flags import choices_of, shown
from modelserver_runtime.settings.names import flag_of, variables_of
from modelserver_runtime.settings.reading import Settings
from modelserver_runtime.settings.sources import FILE_FIELD

_HEAD = """\
# Settings of the runtime

Made from the code by `make reference`; change the descriptions there.

A setting is given by a flag of `modelserver-runtime serve`, by a variable, or by a key of a YAML
file (`--config FILE` or `MODELSERVER_CONFIG`). A flag wins over a variable, a variable over the
file, the file over the default. Of the two variables of a setting the one that begins with
`MODELSERVER_` wins; `HF_SERVER_` is what it was called before. An empty variable means that it is
not set. A variable that begins with one of these two and is no setting is warned about; such a key
of the file, or such a flag, is an error.

Lists are JSON in a variable (`["a", "b"]`), comma-separated in a flag (`a,b`), and YAML in the
file. Secrets have no flag, because everybody on the machine can read the flags of a process.
"""
_TABLE = """\
| setting and key of the file | flag | variables | default | meaning |
|---|---|---|---|---|"""


def render() -> str:
    parts = [_HEAD, *(_section(concern) for concern in concerns_of(Settings))]
    return "\n".join(parts)


def _section(concern: Concern) -> str:
    rows = "\n".join(_rows(concern))
    return f"## {concern.title}\n\n{' '.join(concern.text.split())}\n\n{_TABLE}\n{rows}\n"


def _rows(concern: Concern) -> Iterator[str]:
    for name, field in concern.fields.items():
        cells = (
            f"`{name}`" if name != FILE_FIELD else f"{name} (not in the file)",
            "" if is_secret(field) else f"`{flag_of(name)}`",
            ", ".join(f"`{variable}`" for variable in variables_of(name)),
            _code(shown(field.get_default())),
            _meaning(field),
        )
        yield f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _meaning(field: FieldInfo) -> str:
    choices = choices_of(field.annotation)
    words = f": {', '.join(f'`{choice}`' for choice in choices)}" if choices else ""
    return f"{field.description}{words}".replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
