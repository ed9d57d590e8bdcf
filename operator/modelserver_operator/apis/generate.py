"""Writes crds/modelserver.yaml and docs/api.md from the types; `--check` only compares.

python -m modelserver_operator.apis.generate [--check] [--root DIRECTORY]
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from modelserver_operator.apis.crd import custom_resource_definition
from modelserver_operator.apis.reference import reference

_NOTICE = "# Generated from the operator's types by `make crds`. Do not edit.\n"


class _Plain(yaml.SafeDumper):
    """Without anchors: whoever reads a field sees all of it."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def generated() -> Mapping[str, str]:
    """Content by path below the repository's root."""
    # A field in a line, however long: indentation would be a third of the file otherwise.
    crd = yaml.dump(
        custom_resource_definition(),
        Dumper=_Plain,
        sort_keys=False,
        width=sys.maxsize,
        default_flow_style=None,
    )
    return {"crds/modelserver.yaml": _NOTICE + crd, "docs/api.md": reference()}


def stale(root: Path) -> list[str]:
    return [
        path
        for path, content in generated().items()
        if not (root / path).exists() or (root / path).read_text() != content
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")
    options = parser.parse_args()
    outdated = stale(options.root)
    if options.check and outdated:
        sys.stderr.write(f"{', '.join(outdated)}: not as the types say; run `make crds`\n")
        return 1
    for path in outdated:
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(generated()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
