"""What every test needs."""

import asyncio
import os

from hypothesis import settings

# The same examples on every machine, so that a change is judged by what it changed; and no deadline
# of an example, because machines differ. What nobody thought of: HYPOTHESIS_PROFILE=explore.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_configure():
    """Without this pytest-asyncio asks for a current loop, gets a new one and never closes it."""
    asyncio.set_event_loop(None)
