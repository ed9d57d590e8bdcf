"""docs/cli.md and the command line say the same."""

import re
from pathlib import Path

import pytest

from modelserver_cli.arguments import ORDERS, parser

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
COMMANDS = ("status", "plan", "history", *ORDERS)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        parser("modelserver").parse_args([command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_line(command):
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{command} " in line for line in table)


def test_every_flag_of_the_page_exists(capsys):
    known = "".join(help_of(command, capsys) for command in COMMANDS)
    for flag in set(re.findall(r"`(--[a-z-]+)", PAGE)):
        assert flag in known


def test_every_flag_is_on_the_page(capsys):
    known = "".join(help_of(command, capsys) for command in COMMANDS)
    flags = set(re.findall(r"--[a-z-]+", known)) - {"--help"}
    assert {flag for flag in flags if flag not in PAGE} <= {"--filename", "--output"}  # -f and -o
