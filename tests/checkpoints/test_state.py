import pytest

from rcnn_jax.checkpoints.bundle import Bundle, read_bundle, write_bundle
from rcnn_jax.checkpoints.state import (
    model_header,
    stored_categories,
    stored_config,
    with_stored_channels,
)
from rcnn_jax.errors import CheckpointError
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import build_experiment
from tests.checkpoints.headers import MODEL_HEADER
from tests.e2e import tiny, tiny_mask


@pytest.mark.parametrize(("kind", "data"), [("faster_rcnn", tiny), ("mask_rcnn", tiny_mask)])
def test_a_bundle_stores_all_that_its_model_depends_on(tmp_path, kind, data):
    spec = data.write_tiny(tmp_path)
    spec.write_text(spec.read_text() + "enc_key: 'not to be stored'\n")
    config = load_spec(spec, kind).config
    experiment = build_experiment(config, kind)
    path = tmp_path / "m.tlt"
    write_bundle(path, Bundle(kind, model_header(experiment), {}), "key")
    bundle = read_bundle(path, "key")
    stored = stored_config(bundle, "m.tlt")
    categories = stored_categories(bundle)
    assert stored.enc_key is None
    known = config.to_dict()
    assert stored.to_dict() == {**known, "enc_key": None}
    again = build_experiment(stored, kind, categories=categories)
    assert again.task == experiment.task
    assert (again.geometry, again.category_ids) == (experiment.geometry, experiment.category_ids)


def test_a_spec_that_this_release_cannot_read_is_named_with_the_file():
    bundle = Bundle("faster_rcnn", {**MODEL_HEADER, "spec": "from_the_future: 1"})
    with pytest.raises(CheckpointError) as error:
        stored_config(bundle, "m.tlt")
    assert str(error.value).startswith("m.tlt: the spec that it stores cannot be read by rcnn-jax")
    assert "from_the_future" in str(error.value)


def test_widths_that_make_no_network_are_refused_by_the_name_of_the_file(tmp_path):
    spec = tiny.write_tiny(tmp_path)
    experiment = build_experiment(load_spec(spec, "faster_rcnn").config, "faster_rcnn")
    plan = {**experiment.task.model.channels.to_json(), "block_1a_conv_2": 9}
    with pytest.raises(CheckpointError, match="m.tlt: with the widths of its layers"):
        with_stored_channels(experiment, {"channel_plan": plan}, "m.tlt")
