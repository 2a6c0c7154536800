"""The networks whose features are compared with those of their publishers, at full width.

Both sides get the same weights: every leaf is drawn by NumPy from a seed made of its name, so a
recorded feature can be checked where the publisher's library is not installed. The tail follows the
trunk with stride 2, as in the published classifier.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import numpy as np

from rcnn_jax.models import BackboneOptions, FasterRcnn, parameter_order
from rcnn_jax.models.heads import PREDICTORS
from rcnn_jax.settings.network import TAO_FRCNN, TORCHVISION, ConvConvention
from tests.models.tiny import variable_shapes

PAPER = BackboneOptions(use_pooling=True, all_projections=False)
BIASED = BackboneOptions(use_pooling=True, all_projections=False, use_bias=True)
KERAS_RESNET = ConvConvention(bn_eps=1.001e-5)
MOBILE = ConvConvention(bn_eps=1e-5)


@dataclass(frozen=True)
class Case:
    """One network as its publisher has it.

    Attributes:
      arch: our name of the backbone.
      options: what makes it the published network.
      convention: likewise.
      size: (height, width) of the images, odd where the publisher's padding allows it.
    """

    arch: str
    options: BackboneOptions = PAPER
    convention: ConvConvention = TAO_FRCNN
    size: tuple[int, int] = (75, 101)

    def network(self) -> FasterRcnn:
        """Crops of the tail are 4 x 4: dense layers look at 2 x 2 cells after their pool."""
        return FasterRcnn(
            self.arch, 3, 9, 2, True, options=self.options, convention=self.convention
        )


TORCHVISION_CASES = {
    "resnet:18": Case("resnet:18", convention=TORCHVISION),
    "resnet:34": Case("resnet:34", convention=TORCHVISION),
    "resnet:50": Case("resnet:50", convention=TORCHVISION),
    "resnet:101": Case("resnet:101", convention=TORCHVISION),
    "vgg:16": Case("vgg:16", BIASED, TORCHVISION, (79, 79)),
    "vgg:19": Case("vgg:19", BIASED, TORCHVISION, (79, 79)),
    "googlenet": Case("googlenet"),
    "mobilenet_v2": Case("mobilenet_v2", convention=MOBILE),
}
"""Published by torchvision."""

KERAS_CASES = {
    # Stride on the first convolution of a unit, as the original has it; torchvision's on the second.
    "resnet:50-keras": Case("resnet:50", BIASED, KERAS_RESNET),
    "resnet101": Case("resnet101", BIASED),
    "vgg16": Case("vgg16", size=(79, 79)),
    "mobilenet_v1": Case("mobilenet_v1", size=(64, 96)),
    "efficientnet:b0": Case("efficientnet:b0"),
    "efficientnet:b1": Case("efficientnet:b1"),
    "efficientnet:b4": Case("efficientnet:b4"),
}
"""Published by Keras."""

CASES = TORCHVISION_CASES | KERAS_CASES

SHAPES = CASES | {
    f"efficientnet:b{index}": Case(f"efficientnet:b{index}")
    for index in range(8)
    if index not in (0, 1, 4)
}
"""Those, and the networks of which only the shapes of the kernels are compared."""


def images(case: Case) -> np.ndarray:
    """Two images f32[2 h w 3] of unit variance."""
    return _uniform("images", (2, *case.size, 3), 3**0.5)


def seeded_variables(model: FasterRcnn) -> dict:
    """Weights that keep the scale of activations, and a batch norm that does something."""

    def fill(path, leaf):
        layer, name = path[-2].key, path[-1].key
        draw = _uniform(f"{layer}/{name}", leaf.shape, 1.0)
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return draw * np.float32((6 / fan_in) ** 0.5)
        if name in ("gamma", "moving_variance"):
            return np.float32(0.75) + np.float32(0.25) * draw
        return np.float32(0.2) * draw

    variables = jax.tree_util.tree_map_with_path(fill, variable_shapes(model))
    if model.arch in ("resnet:18", "resnet:34") and not model.options.all_projections:
        _pass_through(variables, "block_1a", model.convention.bn_eps)
    return variables


def published_layers(model: FasterRcnn) -> dict[str, dict[str, tuple[int, ...]]]:
    """{layer: {leaf: shape}} of the backbone in order of creation, as the publisher has it."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, shape in parameter_order(model):
        layer, leaf = path.split("/")
        if layer not in PREDICTORS and layer != "rpn_conv1":
            layers.setdefault(layer, {})[leaf] = shape
    if model.arch in ("resnet:18", "resnet:34"):
        # The template projects the first shortcut of block 1, the paper has nothing to project.
        del layers["block_1a_conv_shortcut"], layers["block_1a_bn_shortcut"]
    return layers


def features(model: FasterRcnn, variables: dict, pixels: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Trunk f32[b h w c] of the images, and the vector f32[b c'] the tail makes of all of it."""

    @jax.jit
    def run(variables, pixels):
        def both(module, pixels):
            trunk = module.extract(pixels, False)[4]
            return trunk, module.tail(trunk, False)

        return model.apply(variables, pixels, method=both)

    return run(variables, pixels)


def sample(array: np.ndarray, count: int = 64) -> np.ndarray:
    """`count` elements spread evenly over the flattened array."""
    flat = np.asarray(array, np.float32).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, count).astype(int)]


def kernel_shapes(layers: Iterable[dict[str, tuple[int, ...]]]) -> np.ndarray:
    """Shapes of all kernels in order, i16[n 4]; those of dense layers begin with two ones."""
    shapes = [leaves["kernel"] for leaves in layers if "kernel" in leaves]
    return np.asarray([(1, 1, *shape)[-4:] for shape in shapes], np.int16)


def _uniform(name: str, shape: tuple[int, ...], half_width: float) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    draw = rng.random(shape, np.float32)
    return (draw * np.float32(2) - np.float32(1)) * np.float32(half_width)


def _pass_through(variables: dict, unit: str, epsilon: float) -> None:
    """Makes the projection of a unit the identity."""
    params, stats = variables["params"], variables["batch_stats"]
    kernel = params[f"{unit}_conv_shortcut"]["kernel"]
    norm = f"{unit}_bn_shortcut"
    width = kernel.shape[-1]
    params[f"{unit}_conv_shortcut"] = {"kernel": np.eye(width, dtype=np.float32)[None, None]}
    params[norm] = {"gamma": np.ones(width, np.float32), "beta": np.zeros(width, np.float32)}
    stats[norm] = {
        "moving_mean": np.zeros(width, np.float32),
        "moving_variance": np.full(width, 1 - epsilon, np.float32),
    }
