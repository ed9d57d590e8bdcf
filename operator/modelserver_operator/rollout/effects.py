"""What a stored status asks of the world: the only source of a rollout's effects."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelserver_operator.apis.rollout import Shadow
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.sight import Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Children of a run, by the status that was read. Nothing here depends on the time.

    `replicas` names the live revisions; all others go. `weights` sum to 100. `root` is the revision
    that the Service leads to where `is_root_routed` does not send it to the built-in router.
    """

    replicas: Mapping[str, int]
    stable: str
    root: str
    is_root_routed: bool
    is_router_wanted: bool
    weights: Mapping[str, int]
    mirror: Shadow | None = None  # requests are copied to `mirrored`
    mirrored: str = ""
    is_holding_requests: bool = False
    preflight: str = ""  # the revision that the golden set shall be asked of; "" for none


def is_governed(status: ModelServerStatus, wish: Wish) -> bool:
    """Whether `effects_of` says what lives, and not the rule for `Rolling`."""
    raise NotImplementedError


def wanted_revision(status: ModelServerStatus, spec_revision: str) -> str:
    """What is to serve: the spec's revision, unless a command or a failure says otherwise."""
    raise NotImplementedError


def effects_of(status: ModelServerStatus, wish: Wish) -> Effects:
    """Only for a status that `is_governed`."""
    raise NotImplementedError
