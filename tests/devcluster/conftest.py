"""What several tests of the development cluster need."""

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def short_path():
    """A folder of its own whose sockets' paths fit: those of pytest grow with its runs."""
    with tempfile.TemporaryDirectory(prefix="dev-") as folder:
        yield Path(folder)
