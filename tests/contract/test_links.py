"""Links between the documents lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


def documents():
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split()]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document):
    links = LINK.findall(document.read_text())
    dead = [link for link in links if not (document.parent / link).exists()]
    assert not dead, f"{document.relative_to(ROOT)} links to {dead}, which do not exist"


def test_the_operator_folder_is_no_package():
    assert not (ROOT / "operator/__init__.py").exists(), "it would shadow the standard library"
