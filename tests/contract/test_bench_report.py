"""The table of figures is what the result files say."""

from bench import report


def test_the_report_is_generated_from_the_result_files():
    assert (report.FOLDER / "README.md").read_text() == report.report()
