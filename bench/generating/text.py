"""Text from one model by several engines: started, warmed up, judged, and measured in rounds.

All engines are in memory at the same time, and all but the one that is asked are stopped (SIGSTOP),
so that none takes anything from another: some look for work even when there is none.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.generating.asking import ask
from bench.generating.engines import Choice
from bench.generating.folders import folder_of, make_missing
from bench.generating.gate import Judgement, demand_right, judged
from bench.generating.measurement import ARRIVALS, Measured, Objective
from bench.generating.vocabulary import Vocabulary, Words
from bench.generating.workload import Lengths, Question, arriving, questions
from bench.serving.answers import Answer
from bench.serving.engines import EngineFailed, Server, log_of
from bench.serving.measurement import used
from bench.serving.model_folder import SEED
from bench.serving.processes import cpu_seconds, pause, peak_memory_megabytes, resume

type Say = Callable[[str], None]

_JUDGED = 8  # answers of each engine; reading one back takes about half a second
_IDLE_SECONDS = 2.0
_ARRIVING = 32  # who cannot take as many at a time is not asked as requests arrive: it falls behind
_WARM_UP = Lengths(prompt=(16, 512), output=(8, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`requests`: of one measurement, for each that is asked at a time.

    `rate`: requests a second that arrive, in a measurement of `arrivals` of them; none if 0.
    """

    rounds: int
    concurrency: Sequence[int]
    requests: int = 2
    least_requests: int = 6
    arrivals: int = 40
    rate: float = 2.0
    lengths: Lengths = field(default_factory=Lengths)
    objective: Objective = field(default_factory=Objective)
    limit_seconds: float = 300.0
    patience: float = 20.0
    until: Callable[[], float] = field(default=lambda: float("inf"))

    @property
    def loads(self) -> list[str]:
        return [f"c{at_a_time}" for at_a_time in self.concurrency] + (
            [ARRIVALS] if self.rate else []
        )

    def at_a_time(self, load: str) -> int:
        """0 where they arrive."""
        return 0 if load == ARRIVALS else int(load.removeprefix("c"))

    def questions(self, load: str, number: int) -> list[Question]:
        """Of a round; the same for every engine, and never asked before."""
        at_a_time = self.at_a_time(load)
        seed = SEED + 1000 * number + at_a_time
        if not at_a_time:
            return arriving(self.arrivals, rate=self.rate, seed=seed, lengths=self.lengths)
        count = max(self.least_requests, self.requests * at_a_time)
        return questions(count, seed=seed, lengths=self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of the engines of one model."""

    measured: Sequence[Measured]
    judgements: Mapping[str, Judgement]
    start_seconds: Mapping[str, float]
    peak_megabytes: Mapping[str, float]
    idle_cores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Engines beside each other on one model."""

    model: str
    engines: Mapping[str, Choice]
    environment: Mapping[str, str]
    plan: Plan
    say: Say
    vocabulary: Vocabulary = field(default_factory=Words)
    is_gate: bool = True

    @property
    def folder(self) -> Path:
        return folder_of(self.model)

    async def run(self) -> Found:
        await make_missing(self.model)
        async with contextlib.AsyncExitStack() as stack:
            running: dict[str, Server] = {}
            idle: dict[str, float] = {}
            for name, choice in self.engines.items():
                running[name] = await self._started(stack, name, choice)
                idle[name] = await self._idle_cores(running[name])
                pause(running[name].pid)
            judgements = await self._judge(running)
            measured = await self._rounds(running)
            return Found(
                measured=measured,
                judgements=judgements,
                start_seconds={name: it.start_seconds for name, it in running.items()},
                peak_megabytes={n: peak_memory_megabytes(it.pid) for n, it in running.items()},
                idle_cores=idle,
            )

    async def _started(self, stack: contextlib.AsyncExitStack, name: str, choice: Choice) -> Server:
        await asyncio.to_thread(choice.prepare, self.folder, self.say)
        self.say(f"{self.model}, {name}: starting")
        engine = await stack.enter_async_context(choice.start(self.folder, self.environment))
        assert isinstance(engine, Server)
        self.say(f"{self.model}, {name}: ready after {engine.start_seconds:.1f} s, warming up")
        lengths = Lengths(prompt=self.plan.lengths.prompt, output=_WARM_UP.output)
        for at_a_time in {1, choice.most_at_a_time}:
            asked = questions(at_a_time, seed=SEED + at_a_time, lengths=lengths)
            await self._answers(name, engine, asked, at_a_time)
        return engine

    async def _answers(
        self, name: str, engine: Server, asked: Sequence[Question], at_a_time: int
    ) -> list[Answer]:
        answers = await self._ask(engine, asked, at_a_time)
        if failures := [answer.failure for answer in answers if answer.failure]:
            raise EngineFailed(f"{name} does not answer: {failures[0]}; see {log_of(name)}")
        return answers

    async def _ask(self, engine: Server, asked: Sequence[Question], at_a_time: int) -> list[Answer]:
        return await ask(
            engine.endpoint,
            asked,
            concurrency=at_a_time,
            limit_seconds=self.plan.limit_seconds,
            reader=self.vocabulary.tokens,
        )

    async def _idle_cores(self, engine: Server) -> float:
        before = cpu_seconds(engine.pid)
        await asyncio.sleep(_IDLE_SECONDS)
        return (cpu_seconds(engine.pid) - before) / _IDLE_SECONDS

    async def _judge(self, running: Mapping[str, Server]) -> dict[str, Judgement]:
        self.say(f"{self.model}: judging answers")
        asked = questions(_JUDGED, seed=SEED, lengths=self.plan.lengths)
        answers = {}
        for name, engine in running.items():
            with _awake(engine):
                answers[name] = await self._answers(name, engine, asked, _JUDGED)
        found = await judged(self.folder, self.environment, answers, self.vocabulary)
        for name, one in found.items():
            self.say(
                f"{self.model}, {name}: {one.right} of {one.tokens} tokens right, {one.equal} of "
                f"{one.answers} answers as generate() in float32"
            )
        if self.is_gate:
            demand_right(found)
        return found

    async def _rounds(self, running: Mapping[str, Server]) -> list[Measured]:
        measured: list[Measured] = []
        longest = 0.0
        for number in range(1, self.plan.rounds + 1):
            left = self.plan.until()
            if number > 1 and left < longest:
                self.say(f"{self.model}: round {number} is left out: it would end after --minutes")
                break
            measured += await self._round(number, running)
            longest = max(longest, left - self.plan.until())
        return measured

    async def _round(self, number: int, running: Mapping[str, Server]) -> list[Measured]:
        names = list(running)
        first = (number - 1) % len(names)
        measured = []
        for load in self.plan.loads:
            for name in names[first:] + names[:first]:
                if self.engines[name].most_at_a_time < (self.plan.at_a_time(load) or _ARRIVING):
                    continue
                measured.append(await self._measured(name, running[name], load, number))
        return measured

    async def _measured(self, name: str, engine: Server, load: str, number: int) -> Measured:
        asked = self.plan.questions(load, number)
        with _awake(engine):
            work = partial(self._ask, engine, asked, self.plan.at_a_time(load))
            answers, usage = await used(engine.pid, work, patience=self.plan.patience)
        one = Measured(
            model=self.model,
            engine=name,
            load=load,
            round=number,
            questions=asked,
            answers=answers,
            usage=usage,
            streams=engine.endpoint.streams,
        )
        self.say(_progress(one, self.plan.objective))
        return one


@contextlib.contextmanager
def _awake(engine: Server) -> Iterator[None]:
    resume(engine.pid)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            pause(engine.pid)


def _progress(one: Measured, objective: Objective) -> str:
    numbers = one.numbers(objective)
    speed = (
        f"{numbers['tokens_per_second']:7.1f} tokens/s, first after "
        f"{numbers['first_token_milliseconds_p50']:6.0f} ms"
        if numbers
        else "nothing"
    )
    failed = f", {len(one.failures)} failed: {one.failures[0]}" if one.failures else ""
    return (
        f"{one.model}, round {one.round}, {one.load:>7}, {one.engine}: {speed} "
        f"(others use {one.usage.others_busy_cores:.2f} cores){failed}"
    )
