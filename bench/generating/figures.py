"""From what was measured to the named figures; pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.generating.engines import LITSERVE, LLAMA_CPP, VLLM, VLLM_ALL_CORES
from bench.generating.limits import PROMPT_ROWS, Limits, Shape
from bench.generating.measurement import Measured, Objective, undisturbed
from bench.serving.engines import OURS, SEQUENTIAL
from bench.serving.figures import rounded

type Key = tuple[str, str, str]  # number, load, engine

# Figure → the load, and the engines of which the best is compared with ours.
RATIOS: Mapping[str, tuple[str, Sequence[str]]] = {
    "ratio_to_vllm_cpu_c1": ("c1", (VLLM, VLLM_ALL_CORES)),
    "ratio_to_vllm_cpu_c8": ("c8", (VLLM, VLLM_ALL_CORES)),
    "ratio_to_vllm_cpu_c32": ("c32", (VLLM, VLLM_ALL_CORES)),
    "ratio_to_transformers_serve_c8": ("c8", (SEQUENTIAL,)),
    "ratio_to_litserve_c8": ("c8", (LITSERVE,)),
    "ratio_to_llama_cpp_c1": ("c1", (LLAMA_CPP,)),
    "ratio_to_llama_cpp_c32": ("c32", (LLAMA_CPP,)),
}
_SPEED = "tokens_per_second"


def medians(measured: Iterable[Measured], objective: Objective) -> dict[Key, float]:
    """Number, load and engine → the median of the rounds."""
    values: dict[Key, list[float]] = defaultdict(list)
    for one in undisturbed(measured):
        for number, value in one.numbers(objective).items():
            values[number, one.load, one.engine].append(value)
    return {key: median(given) for key, given in values.items()}


def text_figures(found: Mapping[Key, float], prefix: str = "") -> dict[str, float]:
    """In the order of numbers and loads, the engines of one beside each other."""
    numbers = list(dict.fromkeys(number for number, _, _ in found))
    loads = list(dict.fromkeys(load for _, load, _ in found))
    in_order = sorted(found, key=lambda key: (numbers.index(key[0]), loads.index(key[1])))
    return {
        f"{prefix}{number}_{load}_{engine}": rounded(found[number, load, engine])
        for number, load, engine in in_order
    }


def ratios(found: Mapping[Key, float]) -> dict[str, float]:
    """Our tokens per second by those of each peer, where both were measured."""
    figures = {}
    for name, (load, peers) in RATIOS.items():
        theirs = [found[_SPEED, load, peer] for peer in peers if (_SPEED, load, peer) in found]
        ours = found.get((_SPEED, load, OURS))
        if theirs and ours:
            figures[name] = rounded(ours / max(theirs))
    return figures


def limit_figures(
    measured: Sequence[Measured], objective: Objective, limits: Limits, shape: Shape
) -> dict[str, float]:
    """What the machine allows, and how much of it ours reaches, prompts included."""
    alone = limits.tokens_per_second_alone(shape)
    figures = {
        "limit_gigabytes_per_second": rounded(limits.bytes_per_second / 1e9),
        **{f"limit_gflops_{rows}_rows": rounded(it / 1e9) for rows, it in limits.flops.items()},
        "limit_tokens_per_second_c1": rounded(alone),
    }
    found = medians(measured, objective)
    if (_SPEED, "c1", OURS) in found:
        figures["fraction_of_bandwidth_bound_c1"] = rounded(found[_SPEED, "c1", OURS] / alone)
    if piece := found.get(("between_pieces_milliseconds_p50", "c1", OURS)):
        figures["fraction_of_bandwidth_bound_c1_between_pieces"] = rounded(1000 / piece / alone)
    for at_a_time in (rows for rows in limits.flops if rows != PROMPT_ROWS):
        if fractions := _of_products(measured, limits, shape, at_a_time):
            figures[f"fraction_of_gemm_bound_c{at_a_time}"] = rounded(median(fractions))
    return figures


def _of_products(
    measured: Sequence[Measured], limits: Limits, shape: Shape, at_a_time: int
) -> list[float]:
    """Of our measurements at this load: seconds that products alone need, by seconds taken."""
    return [
        limits.seconds(
            shape,
            prompts=len(one.good),
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
            rows=at_a_time,
        )
        / one.usage.seconds
        for one in undisturbed(measured)
        if one.engine == OURS and one.load == f"c{at_a_time}"
    ]


def failures(measured: Sequence[Measured]) -> dict[str, float]:
    engines = dict.fromkeys(one.engine for one in measured)
    return {
        f"failed_requests_{engine}": sum(
            len(one.failures) for one in measured if one.engine == engine
        )
        for engine in engines
    }
