"""At rest the operator writes nothing, and a restart is not an event.

`MODELSERVER_TEST_REST_SECONDS` is how long it is watched doing nothing (10; the long form: 60).
"""

import os
import threading

import pytest

from support.servers import pinned, unpinned
from support.waiting import wait_until

SERVERS = 50
REST_SECONDS = float(os.environ.get("MODELSERVER_TEST_REST_SECONDS", "10"))

# A renewal of the Lease every half second in these tests, and a list of each kind now and then.
MOST_READS_PER_SECOND = 10


def rest():
    """Nothing can be waited for here: that nothing happens is what is looked at."""
    threading.Event().wait(REST_SECONDS)


@pytest.fixture
def operator(make_operator):
    return make_operator().start()


@pytest.fixture
def fifty(servers, operator):
    names = [f"chat-{number}" for number in range(SERVERS)]
    for number, name in enumerate(names):
        servers.create(name, unpinned() if number % 5 == 0 else pinned(replicas=1 + number % 2))
    for name in names:
        servers.wait_settled(name, timeout=120)
    return servers


def wait_until_quiet(audit, installation):
    """Two looks without a write between them."""
    last = {"count": -1}

    def is_quiet():
        count = len(audit.writes_of(installation.user))
        quiet, last["count"] = count == last["count"], count
        return quiet

    wait_until(is_quiet, timeout=60, what="no more writes", interval=2)


@pytest.mark.timeout(600)
def test_fifty_servers_at_rest_and_over_restarts_cost_no_write(
    fifty, operator, audit, installation
):
    wait_until_quiet(audit, installation)
    mark, seen = audit.mark(), len(operator.proxy.seen)
    rest()
    assert written(audit, installation, mark) == []
    reads = len(operator.proxy.seen) - seen
    assert reads <= MOST_READS_PER_SECOND * REST_SECONDS, f"{reads} requests in {REST_SECONDS} s"
    operator.stop()
    operator.start()
    rest()
    assert written(audit, installation, mark) == []
    operator.kill()
    operator.start()
    rest()
    assert written(audit, installation, mark) == []


def written(audit, installation, since):
    return [str(entry) for entry in audit.writes_of(installation.user, since)]
