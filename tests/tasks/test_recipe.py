"""The recipe of a two-stage detector takes its second stage as an argument. Nothing is compiled."""

import jax
import jax.numpy as jnp

from rcnn_jax.spec.load import load_spec
from rcnn_jax.structures import Batch, GroundTruth
from rcnn_jax.tasks import recipe
from rcnn_jax.tasks.build import build_experiment


def experiment():
    """Returns a small Faster R-CNN."""
    config = load_spec("configs/faster_rcnn/tiny.txt", "faster_rcnn").config
    config.training_config.sync_bn = False
    return build_experiment(config, "faster_rcnn")


def a_batch(canvas, images=2, objects=3):
    """Returns a batch without content."""
    sizes = jnp.zeros((images, 2))
    gt = GroundTruth(
        boxes=jnp.zeros((images, objects, 4)),
        classes=jnp.zeros((images, objects), jnp.int32),
        valid=jnp.zeros((images, objects), bool),
        crowd=jnp.zeros((images, objects), bool),
    )
    return Batch(
        images=jnp.zeros((images, *canvas, 3), jnp.uint8),
        image_size=sizes,
        scale=sizes,
        source_size=sizes,
        image_id=jnp.arange(images),
        image_valid=jnp.ones(images, bool),
        example_index=jnp.arange(images),
        gt=gt,
    )


def traced(run, made, canvas):
    """Returns the shapes of what a function of a bound model and a batch gives."""
    variables = jax.eval_shape(made.task.init, jax.random.key(0))
    apply = lambda v, b: made.task.model.apply(v, b, method=run, mutable=["batch_stats"])[0]  # noqa: E731
    return jax.eval_shape(apply, variables, a_batch(canvas))


def test_other_heads_train_behind_the_same_first_stage():
    made = experiment()
    canvas = (made.geometry.height, made.geometry.width)
    settings = made.task.settings
    seen = {}

    def two_heads(model, batch):
        keys = recipe.split_keys(jax.random.split(jax.random.key(1), 2), dropout=True)

        def heads(features, proposals, gt):
            first, rois = recipe.box_terms(model, features, proposals, gt, keys, 2, settings)
            seen["rois"] = rois.boxes.shape
            second, _ = recipe.box_terms(model, features, proposals, gt, keys, 2, settings)
            return {**first, **{f"{name}_2": term for name, term in second.items()}}

        return recipe.training_terms(model, batch, keys, made.task.pixels, settings, heads)

    terms = traced(two_heads, made, canvas)
    assert list(terms) == sorted(["rpn_class", "rpn_box", "class", "box", "class_2", "box_2"])
    assert seen["rois"] == (2, settings.roi_sampling.batch_per_image, 4)


def test_heads_of_prediction_may_give_anything():
    made = experiment()
    canvas = (made.geometry.height, made.geometry.width)

    def only_proposals(model, batch):
        outputs, proposals = recipe.prediction(
            model,
            batch.images,
            made.task.pixels,
            made.task.settings,
            made.inference,
            lambda features, proposals, size: (size, proposals.boxes),
        )
        return outputs, proposals.boxes

    (size, boxes), proposals = traced(only_proposals, made, canvas)
    assert (size.shape, boxes.shape) == ((2,), proposals.shape)


def test_classes_that_stand_for_nothing_have_probability_0():
    outputs = recipe.BoxOutputs(logits=jnp.zeros((1, 1, 4)), deltas=jnp.zeros((1, 1, 3, 4)))
    shown = jax.nn.softmax(recipe.used(outputs, (1,)).logits)
    assert shown[0, 0, 1] == 0 and abs(shown.sum() - 1) < 1e-6
