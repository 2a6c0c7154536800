import numpy as np
import pytest

from rcnn_jax.checkpoints.class_rows import match_rows

THEIRS = ("person", "car", "motorcycle")
OURS = ("helmet", "motorbike", "Person")


def predictor(classes: int, per_class: int, background: bool, start: float):
    """Column c of `kernel` [2 n] holds start + c, and `bias` alike."""
    columns = start + np.arange((classes + background) * per_class, dtype=np.float32)
    return {"kernel": np.stack([columns, columns]), "bias": columns}


@pytest.mark.parametrize(
    ("layer", "per_class", "background"),
    [
        ("class-predict", 1, True),
        ("box-predict", 4, True),
        ("mask_fcn_logits", 1, True),
        ("dense_class_td", 1, True),
        ("dense_regress_td", 4, False),
    ],
)
def test_columns_follow_the_names_of_classes(layer, per_class, background):
    stored = {layer: predictor(3, per_class, background, 100.0)}
    fresh = {layer: predictor(3, per_class, background, 0.0)}
    weights, matches = match_rows(stored, fresh, THEIRS, OURS)
    for leaf in ("kernel", "bias"):
        by_class = weights[layer][leaf].reshape(*weights[layer][leaf].shape[:-1], -1, per_class)
        theirs = stored[layer][leaf].reshape(*stored[layer][leaf].shape[:-1], -1, per_class)
        new = fresh[layer][leaf].reshape(*fresh[layer][leaf].shape[:-1], -1, per_class)
        np.testing.assert_array_equal(by_class[..., 0, :], new[..., 0, :])  # helmet
        np.testing.assert_array_equal(by_class[..., 1, :], theirs[..., 2, :])  # motorcycle
        np.testing.assert_array_equal(by_class[..., 2, :], theirs[..., 0, :])  # person
        if background:
            np.testing.assert_array_equal(by_class[..., 3, :], theirs[..., 3, :])
    assert matches.taken == (("motorbike", "motorcycle"), ("Person", "person"))
    assert matches.fresh == ("helmet",) and matches.layers == (layer,)


def test_heads_of_a_cascade_match_their_classes_and_keep_their_one_box():
    box = {"kernel": np.ones((2, 4), np.float32), "bias": np.ones(4, np.float32)}
    stored = {"class-predict-2": predictor(3, 1, True, 100.0), "box-predict": box}
    fresh = {
        "class-predict-2": predictor(3, 1, True, 0.0),
        "box-predict": {name: np.zeros_like(array) for name, array in box.items()},
    }
    weights, matches = match_rows(stored, fresh, THEIRS, OURS)
    assert matches.layers == ("class-predict-2",)
    np.testing.assert_array_equal(weights["class-predict-2"]["bias"], [0.0, 102.0, 100.0, 103.0])
    assert weights["box-predict"] is box  # a box of any class: taken as it is


def test_a_model_with_one_box_takes_no_rows_of_boxes_by_class():
    stored = {"box-predict": predictor(3, 4, True, 100.0)}
    fresh = {"box-predict": {"kernel": np.zeros((2, 4)), "bias": np.zeros(4)}}
    weights, matches = match_rows(stored, fresh, THEIRS, OURS)
    assert matches.layers == () and weights["box-predict"] is stored["box-predict"]


def test_fewer_and_more_classes_than_the_file_has_are_matched():
    stored = {"class-predict": predictor(3, 1, True, 100.0)}
    for ours in (("car",), ("a", "b", "c", "car", "d")):
        fresh = {"class-predict": predictor(len(ours), 1, True, 0.0)}
        bias = match_rows(stored, fresh, THEIRS, ours)[0]["class-predict"]["bias"]
        assert bias[ours.index("car")] == 101.0 and bias[-1] == 103.0


def test_layers_that_are_no_predictors_or_have_other_inputs_stay():
    other = {"kernel": np.zeros((5, 4), np.float32), "bias": np.zeros(4, np.float32)}
    stored = {"fc6": other, "class-predict": other}
    fresh = {"fc6": other, "class-predict": predictor(3, 1, True, 0.0)}
    weights, matches = match_rows(stored, fresh, THEIRS, OURS)
    assert weights["class-predict"] is other and matches.layers == ()


def test_unused_slots_of_coco_match_nothing():
    stored = {"class-predict": predictor(2, 1, True, 100.0)}
    fresh = {"class-predict": predictor(2, 1, True, 0.0)}
    _, matches = match_rows(stored, fresh, ("(unused 12)", "cat"), ("(unused 12)", "cat"))
    assert matches.taken == (("cat", "cat"),) and matches.fresh == ()


def test_the_sentences_name_what_was_taken_and_what_starts_anew():
    stored = {"class-predict": predictor(3, 1, True, 100.0)}
    fresh = {"class-predict": predictor(3, 1, True, 0.0)}
    assert match_rows(stored, fresh, THEIRS, OURS)[1].sentences() == [
        "rows taken from the file by class name in class-predict: motorbike (as motorcycle), Person (as "
        "person)",
        "rows that start anew: helmet",
    ]
