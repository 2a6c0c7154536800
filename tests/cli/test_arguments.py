"""The union of the generations' flags, and the checks that need no spec."""

import os
from pathlib import Path

import pytest

from rcnn_jax.cli import arguments
from rcnn_jax.cli.flags import (
    CALIBRATION_DEFAULTS,
    ENGINE_DEFAULTS,
    choose_devices,
    flag_notes,
    vain_flags,
    with_defaults,
)
from rcnn_jax.cli.parser import Parser
from rcnn_jax.errors import UsageError


def parse(add_flags, kind, *argv):
    parser = Parser("test")
    add_flags(parser, kind)
    return parser.parse_args(list(argv))


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("spec", ["-e", "--experiment_spec_file", "--experiment_spec"])
@pytest.mark.parametrize("key", ["-k", "--enc_key", "--key"])
@pytest.mark.parametrize("workdir", ["-d", "--model_dir", "-r", "--results_dir", "--workdir"])
def test_train_accepts_every_spelling_of_every_generation(kind, spec, key, workdir):
    args = parse(arguments.add_train, kind, spec, "a.txt", key, "secret", workdir, "out")
    assert (args.spec, args.key, args.workdir) == (Path("a.txt"), "secret", Path("out"))


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("model", ["-m", "--model", "--model_path"])
def test_evaluate_accepts_every_spelling_of_the_model(kind, model):
    assert parse(arguments.add_evaluate, kind, "-e", "a", model, "x.tlt").model == Path("x.tlt")


def test_a_faster_rcnn_model_may_come_from_the_spec_but_a_mask_rcnn_model_may_not():
    assert parse(arguments.add_evaluate, "faster_rcnn", "-e", "a").model is None
    with pytest.raises(UsageError, match="-m/--model/--model_path"):
        parse(arguments.add_evaluate, "mask_rcnn", "-e", "a")


@pytest.mark.parametrize("spec", ["-e", "--config_path", "--experiment_spec"])
@pytest.mark.parametrize("images", ["-i", "--image_dir", "--in_image_path"])
@pytest.mark.parametrize("classes", ["-c", "--class_map", "--class_label"])
def test_mask_rcnn_inference_accepts_every_spelling(spec, images, classes):
    args = parse(
        arguments.add_inference,
        "mask_rcnn",
        *(spec, "a.txt", images, "in", classes, "names.txt", "-m", "x.tlt"),
        *("-o", "drawn", "-l", "labels", "-t", "0.25", "--include_mask"),
    )
    assert (args.spec, args.image_dir, args.class_map) == (
        Path("a.txt"),
        Path("in"),
        Path("names.txt"),
    )
    assert (args.image_output, args.label_output) == (Path("drawn"), Path("labels"))
    assert (args.threshold, args.include_mask) == (0.25, True)


def test_mask_rcnn_inference_draws_from_a_score_of_0_6():
    args = parse(arguments.add_inference, "mask_rcnn", "-e", "a", "-i", "in", "-m", "x")
    assert args.threshold == 0.6


def test_faster_rcnn_inference_leaves_everything_to_the_spec():
    args = parse(arguments.add_inference, "faster_rcnn", "-e", "a")
    names = ("model", "image_dir", "image_output", "label_output", "threshold", "class_map")
    assert all(getattr(args, name) is None for name in names)


@pytest.mark.parametrize("spec", ["-d", "--dataset_spec", "--dataset_export_spec"])
def test_faster_rcnn_dataset_convert_accepts_every_spelling(spec):
    args = parse(arguments.add_dataset_convert, "faster_rcnn", spec, "a", "-o", "p", "-f", "0")
    assert (args.spec, args.output, args.validation_fold) == (Path("a"), Path("p"), 0)


def test_mask_rcnn_dataset_convert_writes_256_shards_by_default():
    args = parse(arguments.add_dataset_convert, "mask_rcnn", "-i", "in", "-a", "x.json", "-o", "p")
    assert (args.num_shards, args.tag, args.include_masks) == (256, None, True)


def test_export_has_the_defaults_of_the_seeds_and_calibrates_by_percentile():
    args = parse(arguments.add_export, "faster_rcnn", "-e", "s", "-m", "m")
    assert (args.data_type, args.eval_images) == ("fp32", 0)
    args = with_defaults(args, {**CALIBRATION_DEFAULTS, **ENGINE_DEFAULTS})
    assert (args.cal_method, args.batches, args.batch_size) == ("percentile", 10, 8)
    paths = (args.cal_cache_file, args.cal_data_file, args.cal_image_dir, args.cal_json_file)
    assert paths == (Path("cal.bin"), None, None, None)
    assert (args.min_batch_size, args.opt_batch_size, args.max_batch_size) == (1, 1, 16)
    assert args.max_workspace_size == 1 << 30


def test_flags_of_a_group_that_is_not_used_are_named():
    flags = "--max_batch_size 4 -s --cal_json_file j"
    args = parse(arguments.add_export, "mask_rcnn", "-e", "s", "-m", "m", *flags.split())
    assert vain_flags(args, ENGINE_DEFAULTS, "--engine_file") == [
        "--max_batch_size has no effect without --engine_file",
        "--strict_type_constraints has no effect without --engine_file",
    ]
    assert vain_flags(args, CALIBRATION_DEFAULTS, "--data_type int8") == [
        "--cal_json_file has no effect without --data_type int8"
    ]


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_gen_trt_engine_accepts_every_flag_of_tao_4_and_5(kind):
    flags = (
        "-m a.onnx -e s -k key --data_type int8 --cal_image_dir i --cal_data_file d "
        "--cal_cache_file c --cal_json_file j --engine_file x.engine --min_batch_size 1 "
        "--opt_batch_size 2 --max_batch_size 4 --batch_size 8 --batches 10 --max_workspace_size 4 "
        "-s -v -r out --force_ptq --gpu_index 0 --log_file log"
    )
    args = parse(arguments.add_gen_trt_engine, kind, *flags.split())
    assert (args.model, args.spec, args.key) == (Path("a.onnx"), Path("s"), "key")
    assert (args.engine_file, args.workdir) == (Path("x.engine"), Path("out"))
    assert (args.max_workspace_size, args.strict_type_constraints) == (4, True)


@pytest.mark.parametrize(
    "words", [["-k", ""], ["--key="], ["--enc-key", ""], ["-r", "", ""], ["--gpu_index", ""]]
)
def test_a_flag_with_an_empty_value_is_as_good_as_absent(words):
    args = parse(arguments.add_evaluate, "faster_rcnn", "-e", "a", *words)
    assert (args.key, args.workdir) == (None, None)
    with pytest.raises(UsageError, match="required: -e"):
        parse(arguments.add_train, "faster_rcnn", "-e", "")


@pytest.mark.parametrize("flag", ["--include_mask", "--include_masks", "--include-masks"])
def test_records_hold_masks_however_that_is_asked_for(flag):
    argv = ("-i", "in", "-a", "x.json", "-o", "p", flag)
    assert parse(arguments.add_dataset_convert, "mask_rcnn", *argv).include_masks


@pytest.mark.parametrize("images", ["--eval-images", "--eval_images"])
def test_export_accepts_every_spelling_of_calibration(images):
    flags = "--data_type int8 --cal_image_dir i --cal_data_file d --cal_cache_file c --batches 3"
    more = f"--cal_json_file j --batch_size 4 --cal_method entropy {images} 7"
    args = parse(
        arguments.add_export, "mask_rcnn", "-e", "s", "-m", "m", *flags.split(), *more.split()
    )
    assert (args.data_type, args.cal_method, args.eval_images) == ("int8", "entropy", 7)
    paths = (args.cal_image_dir, args.cal_data_file, args.cal_cache_file, args.cal_json_file)
    assert paths == (Path("i"), Path("d"), Path("c"), Path("j"))
    assert (args.batches, args.batch_size) == (3, 4)


def test_abbreviated_flags_are_unknown():
    with pytest.raises(UsageError, match="there is no flag --fre; did you mean --fresh"):
        parse(arguments.add_train, "faster_rcnn", "-e", "a", "--fre")


def test_a_mistyped_flag_is_named_before_the_one_that_is_missing():
    with pytest.raises(
        UsageError, match="there is no flag --experiment_spec_fil; did you mean --ex"
    ):
        parse(arguments.add_train, "faster_rcnn", "--experiment_spec_fil", "a.txt")


def test_a_key_that_begins_with_a_dash_is_not_shown():
    with pytest.raises(UsageError, match="expected one argument") as caught:
        parse(arguments.add_train, "faster_rcnn", "-e", "a.txt", "-k", "-hidden")
    assert "hidden" not in str(caught.value)
    assert parse(arguments.add_train, "faster_rcnn", "-e", "a", "-k=-hidden").key == "-hidden"


@pytest.mark.parametrize("add_flags", [arguments.add_evaluate, arguments.add_inference])
@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_a_batch_size_is_accepted_and_said_to_be_without_effect(add_flags, kind):
    args = parse(add_flags, kind, "-e", "a", "-m", "m", "-i", "i", "-b", "2")
    assert any("-b" in note or "batch" in note for note in flag_notes(args))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], 1),
        (["--gpus", "2"], 2),
        (["--gpu_index", "1", "0", "1"], 2),
        (["--gpus", "1", "--gpu_index", "3"], 1),
    ],
)
def test_number_of_devices(argv, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    args = parse(arguments.add_train, "faster_rcnn", "-e", "a", *argv)
    assert choose_devices(args, "train") == expected


def test_gpu_index_makes_only_these_gpus_visible_in_order(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    args = parse(arguments.add_train, "faster_rcnn", "-e", "a", "--gpu_index", "2", "0")
    choose_devices(args, "train")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,2"


def test_without_gpu_index_the_visible_gpus_are_left_alone(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    choose_devices(parse(arguments.add_train, "faster_rcnn", "-e", "a", "--gpus", "2"), "train")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize(
    ("argv", "task", "message"),
    [
        (["--gpus", "0"], "train", "--gpus 0: expected 1 or more"),
        (["--gpu_index", "-1"], "train", "--gpu_index -1: expected 0 or more"),
        (
            ["--gpus", "3", "--gpu_index", "0", "1"],
            "train",
            "--gpus 3 and --gpu_index 0 1: 2 different indices are given for 3 GPUs",
        ),
        (
            ["--gpus", "2"],
            "export",
            "export runs on one GPU, found --gpus 2; train, evaluate, inference",
        ),
        (["--use_amp"], "inference", "--use_amp is a choice of train, inference has none"),
        (
            ["--multi-node"],
            "train",
            "--multi-node: this is the only process",
        ),
    ],
)
def test_devices_that_cannot_be_had_are_named(argv, task, message):
    args = parse(arguments.add_train, "faster_rcnn", "-e", "a", *argv)
    with pytest.raises(UsageError) as error:
        choose_devices(args, task)
    assert str(error.value).startswith(message)


def test_flags_without_effect_are_named_once_and_others_not():
    quiet = parse(arguments.add_evaluate, "faster_rcnn", "-e", "a")
    assert flag_notes(quiet) == []
    loud = parse(arguments.add_evaluate, "faster_rcnn", "-e", "a", "-i", "in", "-np", "4")
    assert flag_notes(loud) == [
        "--image_dir has no effect here: the spec names the images",
        "--num_processes 4 has no effect here: one process drives all GPUs of a machine, each with "
        "its share of the batch",
    ]
