"""The preflight of a run: the Job that asks a revision questions with known answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.pods import NetworkPolicyMode
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import key_of
from modelserver_operator.plan.values import Manifest, Observed
from modelserver_operator.resources.preflight_job import make_preflight_job, preflight_image
from modelserver_operator.resources.preflight_policy import make_preflight_policies
from modelserver_operator.resources.revision import Revision
from modelserver_operator.rollout.frozen import rules_of
from modelserver_operator.rollout.preflight import PreflightSeen, read_preflight


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The Job comes last: no pod without the policies that confine it."""

    children: tuple[Manifest, ...]
    seen: PreflightSeen

    @property
    def job(self) -> Manifest:
        return self.children[-1]


def examination_of(
    server: ModelServer,
    examined: str,
    live: Mapping[str, Revision],
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Examination | None:
    """Of the revision that the run wants examined now, if any."""
    run, revision = server.status.rollout, live.get(examined)
    preflight = rules_of(run).preflight if run is not None and revision is not None else None
    if run is None or revision is None or preflight is None:
        return None
    image = preflight_image(revision, config.runtime_image)
    job = make_preflight_job(server, preflight, revision=examined, image=image, run=run.id)
    seen = read_preflight(observed.children.get(key_of(job)), observed.pods, now)
    is_confined = server.spec.network.policy is not NetworkPolicyMode.NONE
    policies = make_preflight_policies(server, examined) if is_confined else ()
    return Examination(children=(*policies, job), seen=seen)
