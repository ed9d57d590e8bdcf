"""docs/diagnosis.md says what the code says."""

import re
from pathlib import Path

import pytest

from modelserver_operator.status.conditions import Reason
from modelserver_operator.status.diagnosis.codes import EXIT_CODES, Code

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/diagnosis.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()

ROWS = {
    match["code"]: match
    for match in re.finditer(
        r"^\| \[`(?P<code>\w+)`\]\(#(?P<anchor>\w+)\) \| (?P<exit>[^|]*)\| (?P<text>.*) \|$",
        PAGE,
        re.MULTILINE,
    )
}


def test_every_code_has_a_row_and_no_other_word_has_one():
    assert set(ROWS) == {code.value for code in Code}


@pytest.mark.parametrize("code", Code)
def test_a_code_is_explained_in_its_own_words(code):
    row = ROWS[code.value]
    assert row["text"] == code.sentence
    assert row["anchor"] == code.value.lower()
    section = PAGE.partition(f"\n### {code.value}\n")[2].partition("\n### ")[0]
    assert "*Shows*" in section
    assert "*Do*" in section


def test_the_exit_codes_are_those_of_the_contract():
    documented = {
        int(number): code
        for code, row in ROWS.items()
        for number in re.findall(r"\d+", row["exit"])
    }
    assert documented == EXIT_CODES | {137: Code.OUT_OF_MEMORY}
    contract = re.findall(r"^\| (\d+) \| `(\w+)` \|", ARCHITECTURE, re.MULTILINE)
    assert {int(number): code for number, code in contract} == EXIT_CODES


def test_every_reason_of_a_condition_is_listed():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([A-Z][^|]*\.) \|$", PAGE, re.MULTILINE))
    assert rows == {reason.value: reason.sentence for reason in Reason}
