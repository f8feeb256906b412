"""What the promotion gate decides, given measurements."""

from __future__ import annotations

import pytest
from gate_evidence import outcomes, shown

from vlaw_assets.assets import promotion
from vlaw_models.config import PromotionConfig
from vlaw_models.errors import VlawError
from vlaw_models.metrics.stats import paired_difference

CONFIG = PromotionConfig()


def test_the_bound_is_one_sided():
    new, old = [1, 0, 1, 1, 0, 1, 1, 0] * 5, [1, 1, 0, 1, 0, 1, 0, 0] * 5
    found = promotion.decide_policy({"stack": new}, {"stack": old}, PromotionConfig(confidence=0.975)).numbers
    both_sides = paired_difference(new, old)
    assert (found["difference"], found["lower_bound"]) == pytest.approx((both_sides.diff, both_sides.low), abs=1e-9)
    assert promotion.decide_policy({"stack": new}, {"stack": old}, CONFIG).numbers["lower_bound"] > both_sides.low


@pytest.mark.parametrize(("new", "old", "promoted"), [(30, 20, True), (20, 20, True), (17, 20, False), (5, 20, False)])
def test_better_equal_and_worse(new, old, promoted):
    verdict = promotion.decide_policy({"stack": outcomes(new, 40)}, {"stack": outcomes(old, 40)}, CONFIG)
    assert (verdict.promoted, verdict.measured) == (promoted, True)
    assert verdict.numbers["lower_bound"] == pytest.approx(
        paired_difference(outcomes(new, 40), outcomes(old, 40), alpha=0.2).low
    )


def test_the_margin_is_what_may_be_lost():
    new, old = {"stack": outcomes(17, 40)}, {"stack": outcomes(20, 40)}
    lower = promotion.decide_policy(new, old, CONFIG).numbers["lower_bound"]
    assert not promotion.decide_policy(new, old, PromotionConfig(margin=-lower)).promoted, "above, not at"
    assert promotion.decide_policy(new, old, PromotionConfig(margin=-lower + 1e-6)).promoted


def test_what_cannot_be_compared_is_not_measured():
    for new, old in (
        ({}, {}),
        ({"stack": [1]}, {}),
        ({"stack": [1, 0]}, {"stack": [1]}),
        ({"stack": [1]}, {"book": [1]}),
        ({"stack": []}, {"stack": []}),
    ):
        verdict = promotion.decide_policy(new, old, CONFIG)
        assert (verdict.promoted, verdict.measured) == (True, False)
        assert "not measured" in verdict.reason
    with pytest.raises(VlawError, match="confidence is 1"):
        promotion.decide_policy({"stack": [1]}, {"stack": [1]}, PromotionConfig(confidence=1.0))


@pytest.mark.parametrize(("positives", "promoted"), [(0, True), (5, True), (6, False)])
def test_world_models_by_their_false_positives(positives, promoted):
    (row,) = shown("digest", positives, 10)
    verdict = promotion.decide_world_model(row, CONFIG)
    assert (verdict.promoted, verdict.measured) == (promoted, True)
    assert (verdict.numbers["false_positives"], verdict.numbers["negatives"]) == (positives, 10)
    assert not promotion.decide_world_model(None, CONFIG).measured
    assert promotion.decide_world_model(None, CONFIG).promoted
