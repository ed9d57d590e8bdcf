"""Requests are spread over a model's pods: evenly, by prefix, and not to those that fail."""

import math
from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.gateway.balance import Balancer, Outliers
from modelserver_runtime.gateway.balance.affinity import BOUND, CROWDED_BOUND, owner, ranked

names = st.lists(st.sampled_from([f"10.0.0.{n}:8080" for n in range(12)]), unique=True, min_size=1)
keys = st.binary(min_size=1, max_size=20)


@given(names, st.lists(keys, max_size=60))
def test_no_pod_has_more_than_its_bounded_share_by_prefix(pods, asked):
    work = Counter()
    for count, key in enumerate(asked, 1):
        chosen = owner(pods, key, work)
        work[chosen] += 1
        assert work[chosen] <= math.ceil(BOUND * count / len(pods))


@given(names, st.integers(1, 60), st.integers(0, 2**32))
def test_what_several_ask_at_once_is_spread_further_than_a_conversation(pods, asked, seed):
    balancer = Balancer(Random(seed))
    balancer.follow(pods)
    work = Counter()
    for count in range(1, asked + 1):
        pod = balancer.choose(now=0, key=b"the same")
        balancer.begin(pod, b"the same")
        work[pod] += 1
        bound = BOUND if count == 1 else CROWDED_BOUND
        assert work[pod] <= math.ceil(bound * count / len(pods))


def test_a_question_that_was_answered_may_go_where_it_was_again():
    balancer = Balancer(Random(1))
    pods = ["a", "b", "c", "d"]
    balancer.follow(pods)
    first = balancer.choose(now=0, key=b"k")
    for pod in (first, first, *pods):  # it has three of six requests, others one
        balancer.begin(pod)
    balancer.begin(first, b"k")
    assert balancer.choose(now=0, key=b"k") != first
    balancer.end(first, b"k")
    assert balancer.choose(now=0, key=b"k") == first


@given(names, keys)
def test_a_pod_that_goes_moves_only_its_own_keys(pods, key):
    first, *_ = ranked(pods, key)
    for gone in set(pods) - {first}:
        assert ranked([pod for pod in pods if pod != gone], key)[0] == first


@given(names, keys, st.integers(0, 2**32))
def test_a_conversation_stays_where_it_was(pods, key, seed):
    balancer = Balancer(Random(seed))
    balancer.follow(pods)
    chosen = {balancer.choose(now=0, key=key) for _ in range(5)}
    assert len(chosen) == 1


@given(names, st.integers(0, 60), st.integers(0, 2**32))
def test_the_least_busy_pod_is_next(pods, requests, seed):
    balancer = Balancer(Random(seed))
    balancer.follow(pods)
    work = Counter(dict.fromkeys(pods, 0))
    for _ in range(requests):
        pod = balancer.choose(now=0)
        assert work[pod] == min(work.values())
        work[pod] += 1
        balancer.begin(pod)
    assert max(work.values()) - min(work.values()) <= 1


@given(names, st.data())
def test_what_was_tried_is_not_tried_again(pods, data):
    balancer = Balancer(Random(1))
    balancer.follow(pods)
    tried = data.draw(st.sets(st.sampled_from(pods)))
    chosen = balancer.choose(now=0, key=b"k", without=tried)
    assert chosen not in tried
    assert (chosen is None) == (tried == set(pods))


@given(names, st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.floats(0, 30)), max_size=80))
def test_half_of_the_pods_are_always_used_and_each_comes_back(pods, history):
    outliers = Outliers()
    now = 0.0
    for index, is_well, passed in history:
        now += passed
        outliers.note(pods[index % len(pods)], is_well=is_well, now=now)
        assert len(outliers.usable(pods, now)) * 2 >= len(pods)
    assert outliers.usable(pods, now + 60) == pods


def test_a_pod_is_left_alone_after_three_failures_and_longer_each_time():
    outliers = Outliers()
    pods = ["a", "b", "c"]
    for _ in range(2):
        outliers.note("a", is_well=False, now=0)
    assert outliers.usable(pods, 0) == pods
    outliers.note("a", is_well=False, now=0)
    assert outliers.usable(pods, 4.9) == ["b", "c"]
    assert outliers.usable(pods, 5) == pods
    outliers.note("a", is_well=False, now=5)
    assert outliers.usable(pods, 14.9) == ["b", "c"]
    assert outliers.usable(pods, 15) == pods


def test_an_answer_makes_good_all_failures_before():
    outliers = Outliers()
    for is_well in (False, False, True, False, False):
        outliers.note("a", is_well=is_well, now=0)
    assert not outliers.is_out("a", 0)


def test_work_that_ends_is_counted_no_more():
    balancer = Balancer(Random(1))
    balancer.follow(["a", "b"])
    balancer.begin("a")
    assert balancer.choose(now=0) == "b"
    balancer.end("a")
    assert balancer.in_flight == 0
