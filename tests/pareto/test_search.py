"""The order of a search over made-up measurements: what is tried, and what is left out."""

import math

from rcnn_jax.pareto.candidate import Candidate, Result, best, front, read_result, write_result
from rcnn_jax.pareto.search import CLOSE, search

PENALTY = {"fp32": 0.0, "int8": 0.01, "int8 QAT": 0.001}
SPEED = {"fp32": 1.0, "int8": 0.4, "int8 QAT": 0.4}


def bench(knee, failing=()):
    """Returns a measurement that loses nothing down to `knee` of the parameters, then much."""

    def measure(candidate):
        if candidate in failing:
            return Result(candidate=candidate, reason="export: was not written")
        lost = PENALTY[candidate.precision] + (0.0 if candidate.keep >= knee else 0.1)
        speed = SPEED[candidate.precision] * (0.2 + 0.8 * candidate.keep)
        return Result(candidate=candidate, metric=0.6 - lost, latency=speed)

    return measure


def test_qat_is_tried_where_calibration_loses_too_much_and_only_there():
    strict = search(bench(knee=0.0), max_drop=0.5)
    assert [str(each.candidate.precision) for each in strict[:3]] == ["fp32", "int8", "int8 QAT"]
    loose = search(bench(knee=0.0), max_drop=2.0)
    assert {each.candidate.precision for each in loose} == {"fp32", "int8"}


def test_a_float_model_that_lost_too_much_is_not_quantised_and_ends_the_descent():
    results = search(bench(knee=0.3), max_drop=0.5)
    small = [each.candidate for each in results if each.candidate.keep < 0.3]
    assert small
    assert {each.precision for each in small} == {"fp32"}
    assert 0.125 not in {each.candidate.keep for each in results}


def test_bisection_closes_in_on_the_smallest_good_fraction():
    knee = 0.3
    results = search(bench(knee), max_drop=0.5)
    top = best(results, results[0], 0.5)
    assert top is not None
    assert top.candidate.precision == "int8 QAT"
    assert knee <= top.candidate.keep <= knee * CLOSE
    assert len({each.candidate for each in results}) == len(results), "nothing is measured twice"


def test_least_bounds_the_descent():
    results = search(bench(knee=0.0), max_drop=2.0, least=0.4)
    assert min(each.candidate.keep for each in results) == 0.5


def test_a_failed_export_is_a_failed_candidate_and_qat_follows():
    failing = {Candidate(1.0, "int8")}
    results = search(bench(knee=0.9, failing=failing), max_drop=0.5)
    names = [each.candidate for each in results if each.candidate.keep == 1]
    assert names[-1].precision == "int8 QAT"


def test_a_model_that_cannot_be_measured_ends_the_search():
    failing = {Candidate(1.0, "fp32")}
    (only,) = search(bench(knee=0.0, failing=failing), max_drop=0.5)
    assert only.reason
    assert math.isnan(only.metric)


def test_the_front_has_what_nothing_beats_in_both():
    def at(keep, metric, latency):
        return Result(candidate=Candidate(keep, "fp32"), metric=metric, latency=latency)

    slow, beaten, quick = at(1, 0.6, 1.0), at(0.5, 0.5, 0.8), at(0.25, 0.55, 0.5)
    failed = Result(candidate=Candidate(0.1, "fp32"), reason="no")
    assert front([slow, beaten, quick, failed]) == [quick, slow]


def test_a_result_comes_back_from_its_folder(tmp_path):
    result = Result(
        candidate=Candidate(0.25, "int8 QAT"), metric=0.5, latency=0.4, parameters=7, size=9
    )
    assert read_result(tmp_path) is None
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    assert result.candidate.name == "keep-0.25-int8-qat"
