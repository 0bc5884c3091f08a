"""The card of a version, as Markdown."""

from __future__ import annotations

from pipeline.core.verdicts import Check, Verdict
from pipeline.report.model_card import MAX_METRICS, CardFacts, model_card


def test_a_card_has_every_check_and_as_many_figures_as_a_reader_takes() -> None:
    verdict = Verdict.of([Check("HU bias in bone", None, "|bias| <= 2", passed=False)])
    metrics = {f"test.class.organ_{number}.dice": number / 100 for number in range(60)}
    facts = CardFacts(
        "organs",
        "Dice 0.3",
        {"task": "segment"},
        ["train: 2 patients"],
        metrics,
        verdict,
    )
    lines = model_card(facts).splitlines()
    assert lines[0] == "# organs"
    assert "| task | `segment` |" in lines
    assert "Not passed." in lines
    assert r"| HU bias in bone | – | \|bias\| <= 2 | failed |" in lines
    assert sum(line.startswith("| `test.class.") for line in lines) == MAX_METRICS == 40
    assert "20 more are metrics of the run." in lines
