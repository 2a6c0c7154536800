"""Distillation: a model in training imitates a finished one, its teacher.

    images ---> teacher ---> features ----------------> term `imitate_features`: squared difference
                                |
    rois of the student ---> crops ---> class logits ---> term `imitate_classes`: divergence

The teacher sees the image and the rois that the student sees, and runs as it does in evaluation.
Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531); Romero et
al., FitNets, 2014 (arXiv:1412.6550), here without a regressor: a pruned student has some of the very
channels of its teacher.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.models.network import Network
from rcnn_jax.ops.marker import staged
from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.structures import Array, Levels
from rcnn_jax.tasks import two_stage
from rcnn_jax.tasks.two_stage import LossTerms, TwoStageSettings

FEATURES, CLASSES = "imitate_features", "imitate_classes"
TERMS = (FEATURES, CLASSES)
"""Names of the loss terms."""
TEMPERATURE = 2.0
"""Logits are divided by it: a divergence of certain answers says little of the other classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A finished model without its weights, which are arguments of compiled functions.

    Attributes:
      model: the Linen module.
      pixels: how uint8 images become its values.
      settings: numbers of its algorithm.
      channels: {level: channels of its features that the student has, i32[c]}; levels that are absent
        are not compared.
    """

    model: Network
    pixels: PixelSettings
    settings: TwoStageSettings
    channels: Mapping[int, Array]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A teacher before the images of a batch.

    Attributes:
      teacher: it.
      variables: its weights.
      features: {level: f32[b h w c]} of the batch.
    """

    teacher: Teacher
    variables: Any
    features: Levels


def begin_lesson(teacher: Teacher, variables: Any, images: Array) -> Lesson:
    """Returns a teacher before images u8[b h w c]."""
    normal = two_stage.normalize(images, teacher.pixels)
    features = teacher.model.apply(variables, normal, train=False, method="extract")
    return Lesson(teacher, variables, lax.stop_gradient(features))


def feature_term(lesson: Lesson, features: Levels) -> LossTerms:
    """Returns the term of the features of a student: their error as a part of the teacher's square.

    Args:
      lesson: on the same images.
      features: {level: [b h w c]} of the student.
    """
    total = jnp.float32(0.0)
    levels = lesson.teacher.channels
    for level, channels in levels.items():
        wanted = lesson.features[level][..., jnp.asarray(channels)]
        total += staged(_relative_error)(features[level], wanted) / len(levels)
    batch = next(iter(features.values())).shape[0]
    return {FEATURES: (total, jnp.float32(batch if levels else 0))}


def class_term(
    lesson: Lesson, crops_boxes: jax.Array, logits: jax.Array, valid: jax.Array
) -> LossTerms:
    """Returns the term of the class logits of a student.

    Args:
      lesson: on the same images.
      crops_boxes: f32[b r 4], the rois.
      logits: f32[b r n] of the student.
      valid: bool[b r], rois that count.
    """
    teacher, settings = lesson.teacher, lesson.teacher.settings
    crops = two_stage.pool(
        lesson.features, lax.stop_gradient(crops_boxes), settings.roi_size, settings
    )
    outputs = teacher.model.apply(lesson.variables, crops, train=False, method="classify")
    weight = valid.astype(jnp.float32)
    divergence = staged(_divergence)(logits, lax.stop_gradient(outputs.logits))
    return {CLASSES: ((divergence * weight).sum(), weight.sum())}


def _relative_error(features: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns the sum over images of mean((features - wanted)^2) / mean(wanted^2)."""
    # Relative: levels and networks differ by orders of magnitude, and one weight must serve all.
    features, wanted = features.astype(jnp.float32), wanted.astype(jnp.float32)
    error = jnp.square(features - wanted).mean((1, 2, 3))
    return (error / (jnp.square(wanted).mean((1, 2, 3)) + 1e-6)).sum()


def _divergence(logits: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns the Kullback-Leibler divergence [b r] of softened class probabilities."""
    ours = jax.nn.log_softmax(logits.astype(jnp.float32) / TEMPERATURE)
    theirs = jax.nn.log_softmax(wanted.astype(jnp.float32) / TEMPERATURE)
    # Times the square: gradients of softened logits are smaller by that factor.
    return (jnp.exp(theirs) * (theirs - ours)).sum(-1) * TEMPERATURE**2
