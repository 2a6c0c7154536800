"""Two real processes train as one, are really ended, and leave what an undisturbed pair leaves."""

import json
import shutil
import signal
import time

import jax
import pytest

from rcnn_jax.hosts.monitor import EXIT_CODE
from rcnn_jax.spec.load import load_spec
from rcnn_jax.tasks.build import AXIS, build_experiment
from rcnn_jax.train.sharding import Slices
from tests.e2e import tiny
from tests.e2e.jobs import ends, errors, start_job
from tests.e2e.kills import different, finish, logged, results, start, statuses

EPOCHS = 20
STEPS = 2 * EPOCHS
"""Six images, four to a step: two in each process."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(folder, spec, what two undisturbed processes leave)."""
    root = tmp_path_factory.mktemp("pair")
    more = (
        'ema_decay: 0.9\n  lr_scaling: "none"\n  checkpoint_interval: 4\n'
        "  visualizer { enabled: true num_images: 1 }"
    )
    spec = tiny.write_tiny(root, epochs=EPOCHS, training=more)
    spec.write_text(spec.read_text().replace("during_training: 2", "during_training: 6"))
    job = start_job(2, *train(spec, root / "whole"), "--log_file", root / "log.txt")
    (code, text), (other, other_text) = ends(job)
    assert (code, other) == (0, 0), text + other_text
    assert errors(text) == []
    return root, spec, other_text


def train(spec, workdir):
    return ["faster_rcnn", "train", "-e", spec, "-d", workdir]


def until(job, reached):
    while not reached() and all(process.poll() is None for process in job):
        time.sleep(0.002)


def moved(workdir):
    """A question: has the run stored a step beyond those that it finds?"""

    def newest():
        return max(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())

    before = newest()
    return lambda: newest() > before


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_only_the_chief_talks_and_writes(pair):
    root, _, other_text = pair
    assert [line for line in other_text.splitlines() if "Gloo" not in line] == []
    states = [line["status"] for line in statuses(root / "whole")]
    assert (states.count("STARTED"), states.count("SUCCESS")) == (1, 1)
    assert [line["step"] for line in lines(root / "whole") if line["kind"] == "train"] == [
        10,
        20,
        30,
        40,
    ]
    assert len(list((root / "whole" / "tensorboard").iterdir())) == 1
    assert (root / "log.txt").read_text().count("effective batch 4 images") == 1
    assert not (root / "whole" / "train.lock").exists()


@pytest.mark.long
def test_two_processes_train_as_two_devices_of_one_do(pair):
    root, spec, _ = pair
    finish(start(*train(spec, root / "one"), "--gpus", 2))
    one, two = lines(root / "one"), lines(root / "whole")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    # Later a last bit has grown into another sampled region; see docs/cluster.md.
    first = [[line for line in metrics if line["kind"] == "epoch"][:2] for metrics in (one, two)]
    for mine, theirs in zip(*first, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert mine["learning_rate"] == theirs["learning_rate"]


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
def test_an_evaluation_shared_by_processes_gives_the_bytes_of_one_process(pair, devices):
    root, spec, _ = pair
    flags = ["faster_rcnn", "evaluate", "-e", spec, "-m", root / "whole" / "best.tlt"]
    if not (root / "alone").exists():
        finish(start(*flags, "-r", root / "alone"))
    shared = root / f"shared{devices}"
    job = start_job(2, *flags, "-r", shared, "--gpus", devices, devices=devices)
    for code, text in ends(job):
        assert code == 0, text
    assert results(shared / "eval") == results(root / "alone" / "eval")


@pytest.mark.long
def test_an_inference_shared_by_processes_or_devices_writes_the_files_of_one_process(pair):
    root, spec, _ = pair
    flags = ["faster_rcnn", "inference", "-e", spec, "-m", root / "whole" / "best.tlt"]
    files = []
    # alone, on two devices of a process, in two processes of two devices: six images, batches of one
    for processes, devices in ((1, 1), (1, 2), (2, 2)):
        shutil.rmtree(root / "found", ignore_errors=True)
        for code, text in ends(start_job(processes, *flags, "--gpus", devices, devices=devices)):
            assert code == 0, text
        files.append(results(root / "found"))
    assert len(files[0]) == 12
    assert different(files[0], files[1]) == different(files[0], files[2]) == []


@pytest.mark.long
def test_a_pair_that_is_ended_in_every_way_leaves_what_an_undisturbed_pair_leaves(pair):
    root, spec, _ = pair
    workdir = root / "ended"
    quick = ["--heartbeat_timeout", 60, "--stall_timeout", 60]

    # SIGTERM at the second process: both stop after the same step, which is saved
    job = start_job(2, *train(spec, workdir), *quick)
    until(job, logged(workdir, 10))
    job[1].send_signal(signal.SIGTERM)
    (code, text), (other, other_text) = ends(job)
    assert (code, other) == (143, 143), text + other_text
    assert "is saved, the same command goes on from there" in text
    assert "interrupted by SIGTERM: step" in statuses(workdir)[-1]["message"]
    assert errors(other_text) == []

    # SIGKILL at the second: the first says who it was
    reached = moved(workdir)
    job = start_job(2, *train(spec, workdir), *quick)
    until(job, reached)
    job[1].kill()
    (code, text), _ = ends(job)
    assert code == EXIT_CODE, text
    (message,) = errors(text)
    assert "process 1 on " in message
    assert statuses(workdir)[-1]["status"] == "FAILURE"

    # SIGSTOP at the second: it is alive, and no collective ever ends
    reached = moved(workdir)
    job = start_job(2, *train(spec, workdir), "--heartbeat_timeout", 900, "--stall_timeout", 20)
    until(job, reached)
    job[1].send_signal(signal.SIGSTOP)
    assert job[0].wait(timeout=300) == EXIT_CODE
    job[1].kill()
    (_, text), _ = ends(job)
    (message,) = errors(text)
    assert "nothing has moved for" in message and "(--stall_timeout)" in message
    assert "process 1 on " in message

    # SIGKILL at the chief, which hosts the coordinator
    reached = moved(workdir)
    job = start_job(2, *train(spec, workdir), *quick)
    until(job, reached)
    job[0].kill()
    _, (code, other_text) = ends(job)
    assert code == EXIT_CODE, other_text
    (message,) = errors(other_text)
    assert "process 0 on " in message

    for code, text in ends(start_job(2, *train(spec, workdir))):
        assert code == 0, text
    assert different(results(workdir), results(root / "whole")) == []


@pytest.mark.long
def test_an_error_of_one_process_ends_both_with_one_message(pair):
    root, spec, _ = pair
    job = start_job(2, "faster_rcnn", "train", "-e", root / "absent.txt", "-d", root / "none")
    (code, text), (other, other_text) = ends(job)
    assert (code, other) == (2, 2)
    assert len(errors(text)) == 1
    assert "absent.txt" in text
    assert errors(other_text) == []


@pytest.mark.long
def test_a_pair_that_divides_its_weights_is_gone_on_with_by_one_that_does_not(tmp_path):
    spec = tiny.write_tiny(
        tmp_path, epochs=8, training='lr_scaling: "none"\n  checkpoint_interval: 2'
    )
    # Smaller leaves are left whole.
    spec.write_text(spec.read_text().replace("value: 8 }", "value: 24 }"))
    task = build_experiment(load_spec(spec).config, "faster_rcnn").task
    leaves = jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))["params"])
    assert any(Slices(AXIS, 2).axis(leaf.shape) is not None for leaf in leaves)
    divided, workdir = tmp_path / "divided.txt", tmp_path / "divided"
    divided.write_text(spec.read_text() + '\ntraining_config { sharding: "fsdp" }\n')
    finish(start(*train(spec, tmp_path / "one"), "--gpus", 2))
    job = start_job(2, *train(divided, workdir))
    until(job, logged(workdir, 10))
    job[1].send_signal(signal.SIGTERM)
    (code, text), (other, other_text) = ends(job)
    assert (code, other) == (143, 143), text + other_text
    for code, text in ends(start_job(2, *train(spec, workdir))):
        assert code == 0, text
    one, both = lines(tmp_path / "one"), lines(workdir)
    assert [line["step"] for line in both] == [line["step"] for line in one]
    first = [[line for line in metrics if line["kind"] == "epoch"][:2] for metrics in (one, both)]
    for mine, theirs in zip(*first, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
