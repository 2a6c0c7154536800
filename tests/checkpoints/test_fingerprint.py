import copy
import json
from fnmatch import fnmatchcase

import pytest
from ml_collections import ConfigDict, config_dict

from rcnn_jax.checkpoints.fingerprint import check_resume, differences, fingerprint
from rcnn_jax.errors import CheckpointError
from rcnn_jax.spec.defaults import default_config
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.schema import walk
from rcnn_jax.tasks.families import FAMILIES

FASTER = {
    "random_seed": 42,
    "enc_key": "secret",
    "model_config": {"arch": "resnet:18", "freeze_blocks": (0, 1), "rfcn_mode": True},
    "training_config": {
        "num_epochs": 12,
        "batch_size_per_gpu": 4,
        "output_model": "/out/x.tlt",
        "optimizer": {"adam": {"lr": 1e-5, "beta_1": 0.9}},
        "visualizer": {"enabled": True, "wandb_config": {"key": "secret"}},
    },
    "dataset_config": {
        "data_sources": [{"tfrecords_path": "a*", "source_weight": 1.0}],
        "target_class_mapping": {"car": "car"},
    },
    "evaluation_config": {"object_confidence_thres": 0.1},
}
PRINT = {
    "dataset_config.data_sources[0].tfrecords_path": "a*",
    "dataset_config.target_class_mapping.car": "car",
    "model_config.arch": "resnet:18",
    "model_config.freeze_blocks": [0, 1],
    "random_seed": 42,
    "training_config.batch_size_per_gpu": 4,
    "training_config.optimizer.adam.beta_1": 0.9,
}


def test_only_what_touches_weights_or_data_order_is_kept():
    assert fingerprint(FASTER, "faster_rcnn") == PRINT


def test_a_config_dict_gives_the_same_as_plain_dictionaries():
    config = ConfigDict(FASTER)
    config.model_config.all_projections = config_dict.placeholder(bool)
    expected = {**PRINT, "model_config.all_projections": None}
    assert fingerprint(config.lock(), "faster_rcnn") == expected


def test_a_fingerprint_survives_json():
    print_ = fingerprint(FASTER, "faster_rcnn")
    assert differences(json.loads(json.dumps(print_)), print_) == []


def test_mask_rcnn_leaves_out_schedule_length_logging_and_test_time():
    config = {
        "seed": 1,
        "total_steps": 5,
        "learning_rate_steps": (3,),
        "init_learning_rate": 0.02,
        "logging_frequency": 10,
        "maskrcnn_config": {"test_nms": 0.5, "nlayers": 50},
        "data_config": {"n_workers": 3, "image_size": (832, 1344), "eval_samples": 5},
    }
    assert fingerprint(config, "mask_rcnn") == {
        "data_config.image_size": [832, 1344],
        "init_learning_rate": 0.02,
        "maskrcnn_config.nlayers": 50,
        "seed": 1,
    }


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_row_names_a_field_of_the_spec(kind):
    paths = [path for path, _ in walk(TABLES[kind])]
    rows = set(FAMILIES[kind].may_change) - {"export", "prune"}
    assert [row for row in rows if not any(fnmatchcase(path, row) for path in paths)] == []
    assert all(FAMILIES[kind].may_change.values())


def test_no_secret_gets_into_a_fingerprint():
    for kind in FAMILIES:
        secret = [path for path, field in walk(TABLES[kind]) if field.secret]
        config = {}
        for path in secret:
            *parents, leaf = path.split(".")
            node = config
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = "secret"
        assert secret and fingerprint(config, kind) == {}


def test_differences_name_path_old_and_new():
    new = copy.deepcopy(FASTER)
    new["random_seed"] = 7
    new["training_config"]["num_epochs"] = 99
    new["model_config"]["freeze_blocks"] = (0,)
    new["dataset_config"]["data_sources"].append({"tfrecords_path": "b*"})
    assert differences(PRINT, fingerprint(new, "faster_rcnn")) == [
        "dataset_config.data_sources[1].tfrecords_path: absent -> 'b*'",
        "model_config.freeze_blocks: [0, 1] -> [0]",
        "random_seed: 42 -> 7",
    ]


def test_a_changed_type_is_a_difference():
    assert differences({"a": 1}, {"a": True}) == ["a: 1 -> True"]


def test_resuming_with_the_same_settings_is_silent():
    check_resume(PRINT, dict(PRINT), "out")


def test_resuming_with_other_settings_lists_them_and_the_ways_out():
    with pytest.raises(CheckpointError) as error:
        check_resume(PRINT, {**PRINT, "random_seed": 7, "model_config.arch": "vgg:16"}, "out")
    assert str(error.value) == (
        "out: the run there was started with other settings (old -> new):\n"
        "  model_config.arch: 'resnet:18' -> 'vgg:16'\n"
        "  random_seed: 42 -> 7\n"
        "Put the old values back to go on with it, choose another workdir, or give --fresh to "
        "start anew there"
    )


def test_an_extension_at_its_default_is_as_if_it_were_absent():
    before = {"seed": 1}
    for config in ({"ema_decay": 0.0}, {"data_config": {"scale_jitter_min": 1.0}}):
        assert fingerprint({**before, **config}, "mask_rcnn") == fingerprint(before, "mask_rcnn")
    assert fingerprint({"ema_decay": 0.9}, "mask_rcnn") == {"ema_decay": 0.9}
    assert fingerprint({"momentum": 0.9}, "mask_rcnn") == {"momentum": 0.9}  # no extension


def test_a_block_that_is_an_extension_is_as_if_it_were_absent_until_it_is_given():
    for kind, path in (("faster_rcnn", "training_config.optimizer.adamw"), ("mask_rcnn", "adamw")):
        config = default_config(kind)
        before = fingerprint(config, kind)
        assert not any(path in name for name in before)
        block = config
        for name in path.split("."):
            block = block[name]
        block.enabled = True
        assert differences(before, fingerprint(config, kind)) == [f"{path}.enabled: absent -> True"]


def test_a_recipe_is_compared_by_its_fields():
    config = default_config("mask_rcnn", recipe="small_data")
    assert not any(name.startswith("recipe") for name in fingerprint(config, "mask_rcnn"))
