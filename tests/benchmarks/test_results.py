import pytest

from benchmarks.results import Aim, Benchmark, SideResult


def side(name, *seconds):
    return SideResult(
        name=name,
        seconds=seconds,
        cpu_seconds=seconds,
        calls=1,
        compile_seconds=None,
        temp_bytes=None,
        host_peak_bytes=None,
        device_peak_bytes=None,
    )


def test_ratio_is_the_median_of_the_rounds_ratios():
    # The machine was ten times slower in the second round: the ratio of medians would be 4 / 2.
    one = Benchmark(name="x", sides=(side("a", 1.0, 20.0, 2.0), side("b", 3.0, 60.0, 4.0)))
    assert one.ratios == {"b": 3.0}


def test_json_has_median_and_extremes():
    values = side("a", 3.0, 1.0, 2.0).to_json()
    assert (values["median"], values["min"], values["max"]) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("relation", "value", "met"),
    [
        ("at most", 14.9, True),
        ("at most", 15.0, True),
        ("at most", 15.1, False),
        ("at least", 14.9, False),
        ("at least", 15.0, True),
    ],
)
def test_aim_is_met_on_the_good_side_of_its_limit(relation, value, met):
    aim = Aim(what="x", value=value, relation=relation, limit=15.0, unit="s")
    assert aim.met is met
    assert aim.to_json()["met"] is met
