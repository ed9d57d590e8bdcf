"""`python -m bench.routing.router_process CORE ...`: the router, which keeps to one core."""

import os
import sys

from modelserver_runtime.__main__ import run

if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    sys.exit(run(["gateway", *sys.argv[2:]]))
