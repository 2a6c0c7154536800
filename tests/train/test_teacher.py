"""Teachers of a run: what is compared, and who cannot teach."""

import dataclasses
import io

import pytest
from rich.console import Console

from rcnn_jax.checkpoints.bundle import read_bundle
from rcnn_jax.checkpoints.state import stored_experiment, with_stored_channels
from rcnn_jax.cli.main import main
from rcnn_jax.errors import CheckpointError
from rcnn_jax.settings.training import TeacherSettings
from rcnn_jax.train.teacher import open_teacher

FINE = ("-nf", "2", "-pg", "2")


class Listener:
    """A reporter that keeps its notes."""

    def __init__(self):
        self.console = Console(file=io.StringIO())
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def pruned(boxes_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "pruned.tlt"
    flags = ["-m", str(boxes_files.model), "-o", str(path), "-pth", "0.9", *FINE]
    assert main(["faster_rcnn", "prune", *flags]) == 0
    return path


def run_with(model, teacher, start=""):
    """The experiment of a run that trains the network of a file and has a teacher."""
    bundle = read_bundle(model)
    experiment = with_stored_channels(
        stored_experiment(bundle, str(model)), bundle.header, str(model)
    )
    return dataclasses.replace(
        experiment,
        teacher=TeacherSettings(model=str(teacher)),
        start=dataclasses.replace(experiment.start, pruned=str(start)),
    )


def test_without_the_field_there_is_no_teacher(boxes_files):
    experiment = dataclasses.replace(run_with(boxes_files.model, "none"), teacher=None)
    assert open_teacher(experiment, None, Listener()) is None


def test_a_pruned_student_imitates_the_channels_that_it_has(boxes_files, pruned):
    heard = Listener()
    taught = open_teacher(run_with(pruned, boxes_files.model, start=pruned), None, heard)
    assert taught is not None
    width = read_bundle(pruned).arrays["params/rpn_conv1/kernel"].shape[2]
    assert {level: len(channels) for level, channels in taught.teacher.channels.items()} == {
        4: width
    }
    assert heard.notes == [
        f"imitating {boxes_files.model}: its class logits, and {width} channels of its features"
    ]


def test_a_student_whose_lineage_is_lost_imitates_logits_only_and_says_so(boxes_files, pruned):
    heard = Listener()
    taught = open_teacher(run_with(pruned, boxes_files.model), None, heard)
    assert taught is not None
    assert taught.teacher.channels == {}
    assert "its class logits only" in heard.notes[0]


def test_a_missing_teacher_and_one_of_the_other_detector_are_refused(boxes_files, masks_files):
    with pytest.raises(CheckpointError, match="the file that teacher names does not exist"):
        open_teacher(run_with(boxes_files.model, "none.tlt"), None, Listener())
    with pytest.raises(CheckpointError, match="mask_rcnn"):
        open_teacher(run_with(boxes_files.model, masks_files.model), None, Listener())
