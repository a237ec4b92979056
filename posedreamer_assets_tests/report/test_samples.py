"""Which samples a gallery shows first."""

from posedreamer_assets.report.samples import hardest_first


def test_the_hardest_are_those_that_were_expected_to_fail_then_those_that_did() -> None:
    rows = [
        {"sample_id": "a", "oks": 0.5},
        {"sample_id": "b"},
        {"sample_id": "c", "oks": 0.1, "predicted_oks": 0.9},
        {"sample_id": "d", "predicted_oks": 0.2, "oks": None},
        {"sample_id": "e", "winner_oks": 0.3},
    ]
    assert [row["sample_id"] for row in hardest_first(rows)] == ["d", "e", "a", "c", "b"]
