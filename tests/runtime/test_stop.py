"""Stop strings across pieces of text: found at once, and never shown in part."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.engine.stop import StopMatcher


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    text = ""
    for piece in pieces:
        released, stopped = matcher.push(piece)
        text += released
        if stopped:
            return text, True
    return text + matcher.flush(), False


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        ([], ["any", "thing"], ("anything", False)),
        (["END"], ["go on E", "N", "D and more"], ("go on ", True)),
        (["END"], ["go on EN", "OUGH"], ("go on ENOUGH", False)),
        (["END"], ["go on E"], ("go on E", False)),
        (["aab"], ["aaab"], ("a", True)),
        (["b", "abc"], ["ab", "c"], ("a", True)),
        (["\n\n"], ["one\n", "two\n", "\n"], ("one\ntwo", True)),
    ],
)
def test_text_ends_right_before_the_first_stop_string(stops, pieces, expected):
    assert run(stops, pieces) == expected


def test_what_may_become_a_stop_string_is_held_back():
    matcher = StopMatcher(["STOP"])
    assert matcher.push("wait ST") == ("wait ", False)
    assert matcher.push("ay") == ("STay", False)


text = st.text(alphabet="abc", max_size=30)
stop_lists = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3)


@given(text=text, stops=stop_lists, cuts=st.lists(st.integers(0, 30)))
def test_pieces_give_the_same_text_as_the_whole(text, stops, cuts):
    """Stop strings of different length may overlap; then only their absence is promised."""
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    released, stopped = run(stops, pieces)
    assert text.startswith(released)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in released for stop in stops)
    if not stopped:
        assert released == text
    elif all(len(stop) == len(stops[0]) for stop in stops):
        assert released == text[: min(text.find(stop) for stop in stops if stop in text)]
