"""Files that real Keras writes, in every layout, give the arrays that Keras holds.

Keras 3 is TensorFlow's own; Keras 2 is the package tf_keras.
"""

import jax
import numpy as np
import pytest

from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.errors import CheckpointError
from rcnn_jax.models import BackboneOptions, FasterRcnn
from tests.models.tiny import variable_shapes

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

CLASSES = 5
FILES = {
    "keras": ("model.h5", "model.hdf5", "model.weights.h5", "model.keras"),
    "tf_keras": ("model.h5", "model.hdf5", "weights.h5"),
}


def small_classifier(keras):
    """Every kind of layer of our backbones; two of them inside wrappers, one in a model."""
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(5, 1, name="conv_pw_1")], name="inner"
    )
    crops = keras.Input((2, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, use_bias=False, name="conv1", padding="same"))(
        crops
    )
    x = layers.TimeDistributed(layers.BatchNormalization(name="conv1_bn"), name="outer")(x)
    x = layers.Reshape((16, 8, 4))(x)
    x = layers.DepthwiseConv2D(3, strides=(2, 1), use_bias=False, name="conv_dw_1")(x)
    x = layers.Conv2D(4, 1, name="plain")(x)
    x = layers.Resizing(8, 8)(x)
    x = layers.Flatten()(inner(x))
    return keras.Model(crops, layers.Dense(CLASSES, name="fc1")(x))


def shaken(model, seed=0):
    """The model with random numbers in every variable."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(1, 0.1, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def save(model, path):
    if "weights" in path.name:
        model.save_weights(str(path))
    else:
        model.save(str(path))
    return path


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in FILES.items() for name in names]
)
def test_every_layout_gives_the_arrays_of_the_layers(package, name, tmp_path):
    keras = pytest.importorskip(package)
    model = shaken(small_classifier(keras))
    weights = load_weights(save(model, tmp_path / name))
    wrapped, norm = model.layers[1], model.layers[2]
    inner = model.get_layer("inner").layers[-1]
    for layer, leaf, variable in (
        ("plain", "kernel", model.get_layer("plain").kernel),
        ("plain", "bias", model.get_layer("plain").bias),
        ("conv_pw_1", "kernel", inner.kernel),
        ("fc1", "kernel", model.get_layer("fc1").kernel),
        ("outer", "moving_variance", norm.layer.moving_variance),
        (wrapped.name, "kernel", wrapped.layer.kernel),
    ):
        np.testing.assert_array_equal(weights[layer][leaf], np.asarray(variable), layer)
    depthwise = model.get_layer("conv_dw_1").get_weights()[0]
    np.testing.assert_array_equal(weights["conv_dw_1"]["kernel"], depthwise.swapaxes(2, 3))
    if name != "weights.h5":  # weights alone do not say in Keras 2 what a wrapper holds
        np.testing.assert_array_equal(weights["conv1"]["kernel"], np.asarray(wrapped.layer.kernel))
        np.testing.assert_array_equal(weights["conv1_bn"]["gamma"], np.asarray(norm.layer.gamma))


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5"])
@pytest.mark.parametrize(
    ("arch", "maker"),
    [
        ("mobilenet_v1", "MobileNet"),
        ("mobilenet_v2", "MobileNetV2"),
        ("efficientnet:b0", "EfficientNetB0"),
        ("resnet101", "ResNet101"),
        ("vgg16", "VGG16"),
    ],
)
def test_models_of_keras_applications_fill_the_backbone(arch, maker, name, tmp_path):
    keras = pytest.importorskip("keras")
    make = getattr(keras.applications, maker)
    model = make(weights=None, input_shape=(64, 64, 3), include_top=False)
    weights = load_weights(save(model, tmp_path / name))
    options = BackboneOptions(
        use_pooling=True, all_projections=False, use_bias=arch in ("resnet101", "vgg16")
    )
    shapes = variable_shapes(FasterRcnn(arch, 3, 9, options=options))
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    loaded = apply_weights(empty["params"], empty.get("batch_stats", {}), weights)
    missing = {row.layer for row in loaded.rows if row.status == "No"}
    heads = {name for name in missing if name.startswith(("rpn_", "dense_"))}
    # a model without its top has not the dense layers of VGG
    assert missing - heads == ({"fc1", "fc2"} if arch == "vgg16" else set())
    assert len(heads) == 5


def test_the_first_form_of_the_new_layout_is_refused_with_advice(tmp_path):
    keras = pytest.importorskip("tf_keras")
    path = save(small_classifier(keras), tmp_path / "model.weights.h5")
    with pytest.raises(CheckpointError, match="numbers layers instead of naming them"):
        load_weights(path)
