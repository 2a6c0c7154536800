"""What cannot be exported is refused before any file is written, in one message with the reason."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from rcnn_jax.cli.main import main
from rcnn_jax.errors import ExportError
from rcnn_jax.models.layers import Conv
from tests.export.run import graph_of


def test_a_spec_of_dynamic_shape_is_refused_with_the_reason(boxes_files, tmp_path, capsys):
    spec = tmp_path / "spec.txt"
    text = boxes_files.spec.read_text()
    fixed = "size_height_width { height: 96 width: 96 }"
    assert fixed in text
    spec.write_text(text.replace(fixed, "size_min { min: 96 }"))
    output = tmp_path / "model.onnx"
    flags = ["-e", str(spec), "-m", str(boxes_files.model), "-o", str(output)]
    assert main(["faster_rcnn", "export", *flags]) == 2
    message = capsys.readouterr().err
    assert "one input size, because DeepStream allocates" in message
    assert "set size_height_width for the export" in message and "Traceback" not in message
    assert not list(tmp_path.glob("model*"))


class Sorter(nn.Module):
    """A layer that some user might write."""

    @nn.compact
    def __call__(self, x):
        return jnp.sort(x, axis=-1)


class Net(nn.Module):
    """A convolution and the layer behind it."""

    @nn.compact
    def __call__(self, x):
        return Sorter(name="odd_layer")(Conv(4, 3, name="conv1")(x))


def test_an_operation_without_an_onnx_form_is_named_with_its_equation_and_layer():
    net = Net()
    image = jnp.zeros((1, 8, 8, 3))
    kernel = {"kernel": jnp.ones((3, 3, 3, 4)), "bias": jnp.zeros(4)}
    variables = {"params": {"conv1": kernel}}
    with pytest.raises(ExportError) as caught:
        graph_of(lambda x: net.apply(variables, x), (None, *image.shape[1:]))
    message = str(caught.value)
    assert "odd_layer: cannot export" in message and "= sort[" in message
    assert "there is no ONNX lowering" in message
