"""`python -m bench.rollout`: how often healthy revisions are rolled back, and bad ones too late.

Thousands of rollouts are drawn at random: ten weights from 1 to 90 %, five minutes each, with a
look every minute. They are judged by the operator's own gate, and by fixed thresholds as the
examples of Flagger and Argo Rollouts have them. Nothing is measured: the same seed gives the same
figures on any machine. Writes bench/results/rollout.json and docs/images/rollouts-simulated.svg.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bench.command_line import count
from bench.results_file import FOLDER, REPOSITORY, Result, Target, versions
from bench.rolling.chart import chart
from bench.rolling.rules import ARGO_ROLLOUTS, FLAGGER, NEVER, gate_rolls_back_at
from bench.rolling.scenarios import Scenario, Truth, all_scenarios
from bench.rolling.traffic import Numbers, draw

PICTURE = REPOSITORY / "docs" / "images" / "rollouts-simulated.svg"
PEERS = ("ours", "flagger_rule", "argo_rollouts_rule")
MOST_FALSE_ROLLBACKS = 1.0
NOTE = (
    "Simulated, {rollouts} rollouts each. Names: requests a second, share of requests that fail"
    " anyway, how many times as often the new revision fails. Minutes are the median of those that"
    " are rolled back, from the first request of the new revision, or from when it turned bad. The"
    " rules are fixed thresholds of 1 % as the examples of the two projects have them, not their"
    " programs; a minute without requests counts as failed there. An incident is six minutes in"
    " which 3 % of the requests of both revisions fail. false_rollback_percent_worst is over all"
    " healthy revisions whose requests fail independently of each other; in bursts they do not."
    " default_steps are 5, 25 and 50 % of two minutes and a bake of five, looked at every 15"
    " seconds; in_bake is a revision that turns bad when it has all traffic."
)


def main() -> int:
    arguments = _parser().parse_args()
    if not arguments.draw:
        rows = [_row(one, arguments) for one in all_scenarios()]
        if not arguments.no_result:
            print(_result(rows, arguments).write())
    if not arguments.no_result:
        PICTURE.write_text(chart(json.loads((FOLDER / "rollout.json").read_text())["rounds"]))
        print(PICTURE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.rollout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rollouts", type=count, default=1000, help="of each kind (1000)")
    add("--seed", type=count, default=1, help="decides all that is drawn (1)")
    add("--draw", action="store_true", help="only draw the picture from the result file")
    add("--no-result", action="store_true", help="write no result file and no picture")
    return parser


def _row(scenario: Scenario, arguments: argparse.Namespace) -> dict[str, Any]:
    row = simulated(scenario, arguments.rollouts, arguments.seed)
    kind = "rolled_back_percent"
    told = "  ".join(
        f"{peer} {row[f'{kind}_{peer}']:5.1f} %" for peer in PEERS if f"{kind}_{peer}" in row
    )
    print(f"{scenario.name:36} {told}", flush=True)
    return row


def simulated(scenario: Scenario, rollouts: int, seed: int) -> dict[str, Any]:
    """What became of so many rollouts of one kind, by each of the rules."""
    drawn = draw(scenario, rollouts, seed)
    looks = {"ours": gate_rolls_back_at(drawn, scenario.looks)}
    if scenario.is_looked_at_each_minute:
        looks["flagger_rule"] = FLAGGER.rolled_back_at(drawn)
        looks["argo_rollouts_rule"] = ARGO_ROLLOUTS.rolled_back_at(drawn)
    row: dict[str, Any] = {
        "scenario": scenario.name,
        "truth": scenario.truth,
        "independent": scenario.is_independent,
        "requests_per_second": scenario.requests_per_second,
        "error_percent": round(100 * scenario.error_rate, 3),
        "times": scenario.times,
    }
    for peer, found in looks.items():
        row |= _found(scenario, peer, found)
    return row


def _found(scenario: Scenario, peer: str, looks: Numbers) -> dict[str, float]:
    """Who is rolled back before turning bad is not found, but lost."""
    is_found = looks >= scenario.bad_from_look
    found = {f"rolled_back_percent_{peer}": round(100 * float(np.mean(is_found)), 2)}
    if scenario.bad_from_look:
        early = (looks != NEVER) & ~is_found
        found[f"rolled_back_too_early_percent_{peer}"] = round(100 * float(np.mean(early)), 2)
    if scenario.truth is Truth.BAD and is_found.any():
        ends = np.cumsum([look.seconds for look in scenario.looks])
        began = ends[scenario.bad_from_look - 1] if scenario.bad_from_look else 0.0
        minutes = (ends[looks[is_found]] - began) / 60
        found[f"minutes_until_rollback_{peer}"] = round(float(np.median(minutes)), 2)
    return found


def _result(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> Result:
    worst = _worst(rows, "ours")
    return Result(
        bench="rollout",
        command=f"python -m bench.rollout --rollouts {arguments.rollouts} --seed {arguments.seed}",
        software=versions(["numpy"]),
        figures={"false_rollback_percent_worst": worst} | _figures(rows),
        rounds=rows,
        targets={
            "false_rollback_percent_worst": Target(
                bound=f"<= {MOST_FALSE_ROLLBACKS:g}", holds=worst <= MOST_FALSE_ROLLBACKS
            )
        },
        peers=PEERS,
        note=NOTE.format(rollouts=arguments.rollouts),
    )


def _worst(rows: Iterable[Mapping[str, Any]], peer: str) -> float:
    name = f"rolled_back_percent_{peer}"
    healthy = [row for row in rows if row["truth"] == Truth.HEALTHY and row["independent"]]
    return max(float(row[name]) for row in healthy if name in row)


def _figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """`minutes_until_rollback_20rps_0.5%_3x_ours`: what differs in the last word is compared."""
    figures = {f"false_rollback_percent_worst_{peer}": _worst(rows, peer) for peer in PEERS}
    kinds = ("rolled_back_percent", "rolled_back_too_early_percent", "minutes_until_rollback")
    for kind in kinds:
        for row in rows:
            names = {f"{kind}_{peer}": f"{kind}_{row['scenario']}_{peer}" for peer in PEERS}
            figures |= {names[key]: row[key] for key in names if key in row}
    return figures


if __name__ == "__main__":
    sys.exit(main())
