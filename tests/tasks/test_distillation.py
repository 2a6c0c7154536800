"""Terms of distillation against their definitions, and a model that is its own teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from rcnn_jax.tasks import distillation, recipe
from rcnn_jax.tasks.distillation import CLASSES, FEATURES, Lesson, Teacher, feature_term
from tests.export.tiny import faster_rcnn, images, lively_variables


def lesson_of(features, channels):
    teacher = Teacher(model=None, pixels=None, settings=None, channels=channels)
    return Lesson(teacher, None, features)


def test_the_feature_term_is_the_squared_error_as_a_part_of_the_teachers_square():
    rng = np.random.default_rng(0)
    theirs = rng.normal(3.0, 2.0, (2, 4, 5, 6)).astype(np.float32)
    channels = np.array([0, 3, 4])
    ours = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    total, count = feature_term(lesson_of({4: theirs}, {4: channels}), {4: ours})[FEATURES]
    wanted = theirs[..., channels]
    parts = [((ours[i] - wanted[i]) ** 2).mean() / (wanted[i] ** 2).mean() for i in range(2)]
    assert total == pytest.approx(sum(parts), rel=1e-5)
    assert count == 2
    same, _ = feature_term(lesson_of({4: theirs}, {4: channels}), {4: wanted})[FEATURES]
    assert same == 0


def test_features_that_are_not_shared_cost_nothing_and_count_nothing():
    ours = {4: jnp.ones((2, 4, 5, 3))}
    total, count = feature_term(lesson_of({4: jnp.ones((2, 4, 5, 6))}, {}), ours)[FEATURES]
    assert (total, count) == (0, 0)


def test_the_divergence_is_that_of_softened_probabilities():
    rng = np.random.default_rng(1)
    ours, theirs = (rng.normal(0, 4, (2, 3, 5)).astype(np.float32) for _ in range(2))
    t = distillation.TEMPERATURE
    wanted = (
        softmax(theirs / t, -1) * (log_softmax(theirs / t, -1) - log_softmax(ours / t, -1))
    ).sum(-1) * t**2
    np.testing.assert_allclose(distillation._divergence(ours, theirs), wanted, rtol=1e-4)
    np.testing.assert_allclose(distillation._divergence(ours, ours), 0, atol=1e-6)


def test_a_lesson_has_no_gradient_of_its_own():
    rng = np.random.default_rng(2)
    theirs = jnp.asarray(rng.normal(size=(1, 2, 2, 3)), jnp.float32)
    ours = theirs + 1

    def term(features):
        return feature_term(lesson_of({4: theirs}, {4: np.arange(3)}), {4: features})[FEATURES][0]

    gradient = jax.grad(term)(ours)
    assert (np.asarray(gradient) > 0).all(), "too large everywhere: all go down"


def test_a_model_that_teaches_itself_agrees_with_itself():
    experiment = faster_rcnn()
    task, variables = experiment.task, lively_variables(experiment)
    teacher = Teacher(
        model=task.model, pixels=task.pixels, settings=task.settings, channels={4: np.arange(32)}
    )
    lesson = distillation.begin_lesson(teacher, variables, images(2))
    assert feature_term(lesson, lesson.features)[FEATURES][0] == 0
    boxes = jnp.tile(jnp.asarray([[4.0, 4.0, 40.0, 40.0]]), (lesson.features[4].shape[0], 1, 1))
    crops = recipe.roi_crops(lesson.features, boxes, task.settings.roi_size, task.settings)
    outputs = task.model.apply(variables, crops, train=False, method="classify")
    valid = jnp.ones(boxes.shape[:2], bool)
    total, count = distillation.class_term(lesson, boxes, outputs.logits, valid)[CLASSES]
    assert abs(float(total)) < 1e-5
    assert count == boxes.shape[0]
