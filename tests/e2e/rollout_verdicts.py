"""What must be true of a rollout that was played, whoever divided the requests."""

import math
from collections import Counter

MOST_TOLD = 5  # of failures
FEWEST_REQUESTS = 10  # that a share is judged by


def require_unnoticed(play, record, *, but_of=""):
    """Every request was answered once, by its own answer, and well."""
    failures = play.traffic.failures(but_of=but_of)
    record("failed_requests_during_rollouts", len(failures))
    began = [answer.began for answer in play.traffic.answers]
    record("requests", len(began))
    record("requests_a_second", round(len(began) / (max(began) - min(began)), 1))
    story = "\n".join(play.story())
    kinds = Counter((one.status, one.revision, one.router_says, one.text) for one in failures)
    when = [round(one.began - play.changed_at, 1) for one in failures[:MOST_TOLD]]
    assert not kinds, f"{kinds.most_common(MOST_TOLD)} at {when} s\n{story}"
    assert play.traffic.mistaken() == [], story
    assert play.traffic.lost() == set(), story


def require_share(play, record, weight, shares):
    """Of the requests that were divided, within three standard deviations."""
    requests, wanted = shares.total(), weight / 100
    observed = shares[play.new] / requests
    record(f"share_at_{weight}_percent", f"{observed:.3f} of {requests}")
    assert requests >= FEWEST_REQUESTS
    assert abs(observed - wanted) <= 3 * math.sqrt(wanted * (1 - wanted) / requests)


def require_rolled_back(play, record, reason, since="Analyzing"):
    """And not tried again; how long that took from the first request or copy that it got."""
    seconds = play.entered("RollingBack") - play.entered(since)
    record("seconds_to_detection", round(seconds, 1))
    failed = play.last.status["failedRevisions"]
    record("evidence", failed[0]["evidence"])
    assert [(one["revision"], one["reason"]) for one in failed] == [(play.new, reason)]
    assert play.last.status["servingRevision"] == play.old
