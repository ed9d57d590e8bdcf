"""The errors of the development cluster.

DevclusterError                 expected, found, what to do; ends the command with status 1
├── MissingToolError            a program of the operating system is not installed
├── ProgramUnavailableError     a Kubernetes program could not be found, downloaded or built
├── NotReadyError               something started, but did not become ready in time
├── ClusterStateError           the cluster on disk is not what the command needs
└── CommandError                a program that was run failed
"""


class DevclusterError(Exception):
    """Expected, found, what to do: one message that a person can act on."""


class MissingToolError(DevclusterError):
    """The machine lacks a program; the person (or apt) must install it."""


class ProgramUnavailableError(DevclusterError):
    """None of cache, PATH, download and build gave the program."""


class NotReadyError(DevclusterError):
    """A program runs but does not answer, or ended while it was waited for."""


class ClusterStateError(DevclusterError):
    """The cluster does not exist, or exists in another mode than the one asked for."""


class CommandError(DevclusterError):
    """A program ended with a status other than zero."""
