"""One reconciliation: look, plan, apply, report. Safe to stop and to repeat at any point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.cluster.checks import CheckProbe
from modelserver_operator.cluster.client import ApiClient, ObjectName, name_of
from modelserver_operator.cluster.measuring import MeasuringProbe
from modelserver_operator.cluster.mounts import MountProbe
from modelserver_operator.cluster.progress import ProgressProbe
from modelserver_operator.cluster.readings import ReadingProbe
from modelserver_operator.cluster.scaling_readings import ScalingProbe
from modelserver_operator.config import OperatorConfig
from modelserver_operator.errors import InvalidResource, NotFound
from modelserver_operator.plan.answers import NOTHING_HEARD, Heard, Measured
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.scaling_values import ScalingHeard
from modelserver_operator.plan.values import Manifest, Observed, Plan, PodProgress, Refusal
from modelserver_operator.reconciler.announce import Announcer
from modelserver_operator.reconciler.apply import Applier, Guard
from modelserver_operator.reconciler.caches import KINDS, Caches, ServerId, is_owned_by
from modelserver_operator.resources.kinds import MODEL_SERVER, POD
from modelserver_operator.rollout.sight import CheckAnswer
from modelserver_operator.status.report import Reported, reported, status_of_invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Ask what no informer shows."""

    progress: ProgressProbe
    mounts: MountProbe
    readings: ReadingProbe
    checks: CheckProbe
    measuring: MeasuringProbe
    scaling: ScalingProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What no informer shows and was asked for; all by pod."""

    progress: Mapping[str, PodProgress] = MappingProxyType({})
    mount_failures: Mapping[str, str] = MappingProxyType({})
    heard: Heard = NOTHING_HEARD
    checks: tuple[CheckAnswer, ...] | None = None
    measured: Measured | None = None
    scaling: ScalingHeard | None = None
    last_scaling: ScalingHeard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a reconciliation ended. `unsettled`: something is left that nobody will tell us about.

    `decided`: a decision about a rollout was stored, which asks for other children.
    """

    wrote: bool = False
    decided: bool = False
    unsettled: bool = False
    again_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A ModelServer as stored, what was seen of it and what shall be done."""

    manifest: Manifest
    observed: Observed
    plan: Plan
    reported: Reported

    @property
    def is_going(self) -> bool:
        return "deletionTimestamp" in self.manifest["metadata"]

    @property
    def is_settled(self) -> bool:
        """Nothing is left to do; one that is being deleted is left to the cluster."""
        if self.is_going:
            return True
        return self.plan.is_empty and self.reported.status == (self.manifest.get("status") or {})


# No informer shows an object that is not ours: whether it has gone must be asked.
STRANGER_SECONDS = 10.0

NOTHING = Plan(target_revision="", serving_revision="")


class Reconciler:
    """`clock` is the wall clock, for timestamps that users read.

    `absorb` is told that everything which has happened to a server up to now will be looked at;
    `decided` of every step of a rollout that was stored, by the reason of its Event.
    """

    def __init__(  # noqa: PLR0913  where the whole shell meets
        self,
        client: ApiClient,
        caches: Caches,
        config: OperatorConfig,
        *,
        guard: Guard,
        probes: Probes,
        clock: Callable[[], datetime],
        absorb: Callable[[ObjectName], None],
        decided: Callable[[str], None],
    ) -> None:
        self._client = client
        self._caches = caches
        self._config = config
        self._guard = guard
        self._probes = probes
        self._clock = clock
        self._absorb = absorb
        self._applier = Applier(client, caches, guard)
        self._announcer = Announcer(client, config.identity, clock, decided)
        self._progress_wanted: set[ObjectName] = set()

    async def reconcile(self, where: ObjectName) -> Verdict:
        cached = self._caches.servers.get(where)
        if cached is None:
            return self._gone(where)
        look, answers = await self._informed_look(where, cached)
        if look.is_settled:
            return self._verdict(where, look)
        live = await self._read(where)
        if live is None:
            return self._gone(where)
        if _version(live) != _version(cached):
            look = await self._look(live, answers)
        return await self._act(_id_of(live), look, answers)

    async def _informed_look(self, where: ObjectName, cached: Manifest) -> tuple[Look, Answers]:
        """Looks twice where the first look raises a question."""
        answers = Answers(
            progress=await self._progress_of(where),
            last_scaling=self._caches.last_heard.get(where),
        )
        look = await self._look(cached, answers)
        plan = look.plan
        questions = (plan.unmounted, plan.questions, plan.series, plan.checks)
        if not any(questions) and plan.scaling_question is None:
            return look, answers
        answers = replace(
            answers,
            mount_failures=await self._mount_failures(look),
            heard=await self._probes.readings.read(look.observed.pods, plan.questions),
            checks=await self._probes.checks.ask(plan.checks) if plan.checks else None,
            measured=await self._probes.measuring.ask(plan.series) if plan.series else None,
            scaling=await self._heard_for_scaling(look),
        )
        if answers.scaling is not None:  # what is heard next is compared with this
            self._caches.last_heard[where] = answers.scaling
        return await self._look(cached, answers), answers

    async def _heard_for_scaling(self, look: Look) -> ScalingHeard | None:
        question = look.plan.scaling_question
        if question is None:
            return None
        return await self._probes.scaling.ask(look.observed.pods, question)

    async def _mount_failures(self, look: Look) -> Mapping[str, str]:
        pods = [one for one in look.observed.pods if _is_one_of(one, look.plan.unmounted)]
        return await self._probes.mounts.read(pods) if pods else {}

    async def _act(self, server: ServerId, look: Look, answers: Answers) -> Verdict:
        if look.is_settled:
            return self._verdict(server.where, look)
        wrote = not look.plan.is_empty
        if wrote:
            refusal = await self._applier.apply(look.plan, look.observed, server)
            self._absorb_echoes(server.where, look)
            look = await self._look(look.manifest, answers, refusal)
        overtaken = await self._report(server.where, look)
        verdict = self._verdict(server.where, look, wrote=wrote, overtaken=overtaken)
        if not look.reported.is_decision:
            return verdict
        return replace(verdict, decided=True, again_after_seconds=0.0)

    def _absorb_echoes(self, where: ObjectName, look: Look) -> None:
        """Our own writes come back as events; the next look sees them, and whatever came with them.

        It does not see a newer ModelServer, so news of one must stay.
        """
        if self._caches.servers.version(where) == int(_version(look.manifest)):
            self._absorb(where)

    def _verdict(
        self, where: ObjectName, look: Look, *, wrote: bool = False, overtaken: bool = False
    ) -> Verdict:
        deadlines = [look.plan.requeue_after_seconds, look.reported.wake_seconds]
        if self._caches.strangers.of(where):
            deadlines.append(STRANGER_SECONDS)
        again = min((one for one in deadlines if one is not None), default=None)
        left = not look.plan.is_empty and not look.is_going
        return Verdict(wrote=wrote, unsettled=left or overtaken, again_after_seconds=again)

    async def _look(
        self, manifest: Manifest, answers: Answers, refusal: Refusal | None = None
    ) -> Look:
        """Reads caches only, but for strangers."""
        server_id = _id_of(manifest)
        await self._refresh_strangers(server_id)
        observed = self._caches.observe(server_id, answers.progress, answers.mount_failures)
        where = server_id.where
        observed = replace(
            observed,
            heard=answers.heard,
            checks=answers.checks,
            measured=answers.measured,
            scaling=self._caches.scaling_of(where, answers.scaling, answers.last_scaling),
        )
        now = self._clock()
        try:
            server = parse_model_server(manifest)
        except InvalidResource as failure:
            status = status_of_invalid(manifest, failure, now)
            said = Reported(status=status)
            return Look(manifest=manifest, observed=observed, plan=NOTHING, reported=said)
        plan = desired_state(server, observed, self._config, now)
        self._remember(where, wanted=plan.progress_wanted)
        said = reported(server, observed, plan, now, (refusal,) if refusal else ())
        self._caches.ports.note(where, said.holder_port)
        return Look(manifest=manifest, observed=observed, plan=plan, reported=said)

    async def _progress_of(self, where: ObjectName) -> Mapping[str, PodProgress]:
        if where not in self._progress_wanted:
            return {}
        return await self._probes.progress.read(self._caches.of[POD.kind].of_server(where))

    async def _refresh_strangers(self, server: ServerId) -> None:
        strangers = self._caches.strangers
        for key in strangers.of(server.where):
            strangers.forget(server.where, key)
            try:
                live = await self._client.get(
                    KINDS[key.kind], ObjectName(server.where.namespace, key.name)
                )
            except NotFound:
                continue
            if is_owned_by(live, server.uid):
                self._caches.of[key.kind].put(live)
            else:
                strangers.add(server.where, key, live)

    async def _read(self, where: ObjectName) -> Manifest | None:
        """The ModelServer as it is now; the cache may hold one that is long gone."""
        try:
            live = await self._client.get(MODEL_SERVER, where)
        except NotFound:
            return None
        self._caches.servers.put(live)
        return live

    async def _report(self, where: ObjectName, look: Look) -> bool:
        """Whether the ModelServer has changed meanwhile."""
        old = look.manifest.get("status") or {}
        status = look.reported.status
        if status == old:
            return False
        servers, metadata = self._caches.servers, look.manifest["metadata"]
        self._guard.check()
        with servers.expecting(where):
            written = await self._client.apply_status(
                where, status, uid=metadata["uid"], version=metadata["resourceVersion"]
            )
        servers.put(written)
        await self._announcer.announce(look.manifest, old, look.reported)
        return servers.version(where) != int(_version(written))

    def _remember(self, where: ObjectName, *, wanted: bool) -> None:
        if wanted:
            self._progress_wanted.add(where)
        else:
            self._progress_wanted.discard(where)

    def _gone(self, where: ObjectName) -> Verdict:
        """Its children have an owner that does not exist: the cluster collects them."""
        self._caches.servers.forget(where)
        self._caches.strangers.forget(where)
        self._progress_wanted.discard(where)
        self._caches.ports.note(where, None)
        self._caches.last_heard.pop(where, None)
        return Verdict()


def _id_of(manifest: Manifest) -> ServerId:
    return ServerId(name_of(manifest), manifest["metadata"]["uid"])


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"]["resourceVersion"])


def _is_one_of(pod: Manifest, names: Sequence[str]) -> bool:
    return pod["metadata"]["name"] in names
