import pytest

from benchmarks.growth import BASE, FACTORS, exponent, subject_of


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("fixed", [0.0, 100.0])
def test_exponent_is_that_of_what_is_added(power, fixed):
    costs = [fixed + factor**power for factor in FACTORS]
    assert exponent(costs) == pytest.approx(power)


def test_cost_that_does_not_grow_has_exponent_zero():
    assert exponent([5.0, 5.0, 5.0]) == 0.0
    assert exponent([5.0, 5.5, 5.2]) == 0.0
    assert exponent([5.0, 6.0, 7.0], least=2.0) == 0.0


def test_first_step_lost_in_noise_makes_it_cubic_at_most():
    assert exponent([5.0, 4.0, 68.0]) == pytest.approx(3.0)


def test_sizes_reach_the_settings():
    subject = subject_of(BASE)
    task = subject.experiment.task
    assert subject.canvas[0] * subject.canvas[1] == BASE.area
    assert subject.num_classes == BASE.classes
    assert subject.experiment.train_gt.max_objects == BASE.objects
    assert task.settings.train_proposals.post_nms == BASE.proposals
    assert subject.experiment.inference.proposals.pre_nms == BASE.proposals
    assert task.settings.roi_sampling.batch_per_image == BASE.rois
