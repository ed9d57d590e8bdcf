"""How many files and connections the process may have open."""

import resource


def raise_limit_of_files() -> None:
    """As many as it may: container engines give 1024 at first, for programs that use `select`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
