import jax
import numpy as np

from rcnn_jax.export.build import compiled_stages
from rcnn_jax.export.contracts import make_header
from tests.export.tiny import faster_rcnn, lively_variables


def test_no_weight_is_a_constant_of_the_program_that_the_check_compiles():
    experiment = faster_rcnn()
    variables = jax.tree.map(np.asarray, lively_variables(experiment, predictors=0.3))
    header = make_header(experiment, "tao", None)
    images = jax.ShapeDtypeStruct((1, *header.canvas, 3), np.float32)
    program = compiled_stages(experiment, header).lower(variables, images).as_text().lower()
    large = [leaf for leaf in jax.tree.leaves(variables) if leaf.size > 32 and leaf.std() > 0]
    assert large
    for leaf in large:
        assert leaf.tobytes()[16:48].hex() not in program
