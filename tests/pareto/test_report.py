"""The page of a search: the choice, every candidate, and failures in words."""

from rcnn_jax.pareto.candidate import Candidate, Result
from rcnn_jax.pareto.report import headings, page, row

RESULTS = [
    Result(candidate=Candidate(1.0, "fp32"), metric=0.6, latency=1.0, parameters=1000, size=4000),
    Result(candidate=Candidate(1.0, "int8"), reason="export: was not <written>"),
    Result(candidate=Candidate(0.5, "fp32"), metric=0.597, latency=0.5, parameters=500, size=2000),
]


def test_loss_is_in_points_and_latency_relative():
    assert dict(zip(headings("mAP"), row(RESULTS[2], RESULTS), strict=True)) == {
        "Parameters": "500",
        "precision": "fp32",
        "mAP (%)": "59.70",
        "loss": "+0.30",
        "latency": "0.50",
        "MB": "0.00",
        "front": "yes",
        "reason": "",
    }


def test_the_page_names_the_choice_and_escapes_reasons():
    text = page(RESULTS, "best.tlt", "mAP", 0.5, "openvino")
    assert "50% of the parameters, fp32: 0.50 of the latency, +0.30 points lost" in text
    assert "was not &lt;written&gt;" in text
    assert "latency in openvino" in text


def test_nothing_is_chosen_where_only_the_model_itself_is_good_enough():
    text = page(RESULTS, "best.tlt", "mAP", 0.1, "openvino")
    assert "not pruned, fp32: 1.00 of the latency, +0.00 points lost" in text
