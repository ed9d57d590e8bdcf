"""What every test needs."""

import asyncio


def pytest_configure():
    """Without this pytest-asyncio asks for a current loop, gets a new one and never closes it."""
    asyncio.set_event_loop(None)
