"""Opening a model file: once per command, by the suffix, and compared with a spec in one place."""

import pytest

import rcnn_jax
from rcnn_jax.checkpoints import container
from rcnn_jax.checkpoints.bundle import read_bundle, write_bundle
from rcnn_jax.checkpoints.container import encrypt
from rcnn_jax.cli.main import main
from rcnn_jax.errors import CheckpointError, ExportError
from rcnn_jax.export.command import export
from rcnn_jax.export.plan import ExportOptions
from rcnn_jax.runtime.bundle import OpenBundle, open_bundle
from rcnn_jax.runtime.graph import OpenGraph
from rcnn_jax.runtime.open import open_model
from rcnn_jax.tasks.experiment import Experiment

KEY = "the key of the openings"


@pytest.fixture(scope="module")
def encrypted(boxes_files, tmp_path_factory):
    """{suffix: encrypted file} of a tiny Faster R-CNN."""
    root = tmp_path_factory.mktemp("encrypted")
    write_bundle(root / "model.tlt", read_bundle(boxes_files.model), KEY)
    (root / "model.etlt").write_bytes(encrypt(boxes_files.graph.read_bytes(), KEY))
    return {path.suffix: path for path in root.iterdir()}


@pytest.fixture
def openings(monkeypatch):
    """The names of the encrypted files that are opened, in order; each costs one run of scrypt."""
    names, honest = [], container.decrypt_pieces

    def counted(file, key, name):
        names.append(name)
        return honest(file, key, name)

    monkeypatch.setattr(container, "decrypt_pieces", counted)
    return names


@pytest.mark.parametrize("suffix", [".tlt", ".etlt"])
@pytest.mark.parametrize("task", ["evaluate", "inference"])
def test_a_command_opens_its_encrypted_model_once(
    boxes_files, encrypted, openings, tmp_path, task, suffix
):
    model = encrypted[suffix]
    argv = ["-e", str(boxes_files.spec), "-m", str(model), "-k", KEY, "-r", str(tmp_path)]
    assert main(["faster_rcnn", task, *argv]) == 0
    assert openings == [str(model)]


def test_export_opens_its_encrypted_model_once_and_not_what_it_wrote(
    boxes_files, encrypted, openings, tmp_path
):
    model, output = encrypted[".tlt"], tmp_path / "out.etlt"
    argv = ["-e", str(boxes_files.spec), "-m", str(model), "-k", KEY, "-o", str(output)]
    assert main(["faster_rcnn", "export", *argv, "--gen_ds_config"]) == 0
    assert output.exists() and (tmp_path / "nvinfer_config.txt").exists()
    assert openings == [str(model)]


@pytest.mark.parametrize("suffix", [".tlt", ".etlt"])
def test_load_opens_an_encrypted_model_once(encrypted, openings, suffix):
    assert rcnn_jax.load(encrypted[suffix], key=KEY).class_names == ("disc", "rod", "star")
    assert openings == [str(encrypted[suffix])]


def test_the_suffix_says_what_a_file_is(boxes_files, encrypted, tmp_path):
    assert isinstance(open_model(boxes_files.model, None), OpenBundle)
    assert isinstance(open_model(boxes_files.graph, None), OpenGraph)
    assert isinstance(open_model(encrypted[".etlt"], KEY), OpenGraph)
    for suffix in (".engine", ".trt", ".plan"):
        path = tmp_path / f"model{suffix}"
        path.touch()
        with pytest.raises(CheckpointError, match="the description .* is not beside it"):
            open_model(path, None)


def test_an_open_bundle_keeps_no_state_of_an_optimizer(boxes_files, tmp_path):
    bundle = read_bundle(boxes_files.model)
    weights = next(iter(bundle.arrays.values()))
    arrays = {**bundle.arrays, "opt_state/0": weights, "ema/0": weights}
    path = tmp_path / "training.tlt"
    write_bundle(path, type(bundle)(bundle.kind, bundle.header, arrays))
    kept = open_model(path, None).bundle.arrays
    assert "opt_state/0" not in kept and "ema/0" in kept


def test_the_library_exports_by_a_spec_by_an_experiment_or_by_the_spec_in_the_file(
    boxes_files, tmp_path, capsys
):
    written = []
    for number, spec in enumerate((boxes_files.spec, boxes_files.experiment, None)):
        output = tmp_path / f"{number}.onnx"
        if isinstance(spec, Experiment):
            opened, options = open_bundle(boxes_files.model, None), ExportOptions(output=output)
            exported = export(opened, spec, options)
        else:
            exported = rcnn_jax.api.export(boxes_files.model, output, spec)
        assert exported.report.problems == () and exported.output == output
        assert {path.name for path in exported.files} == {
            output.name,
            f"{output.name}.check.json",
            f"{output.name}.check.txt",
        }
        written.append(output.read_bytes())
    assert written[0] == written[1] == written[2]
    assert capsys.readouterr().out == "", "a library call is silent"


def with_views(boxes_files, folder):
    spec = folder / "views.txt"
    blocks = 'evaluation_config { tta: "flip" } inference_config { tta: "flip" }'
    spec.write_text(f"{boxes_files.spec.read_text()}\n{blocks}\n")
    return spec


def test_a_bundle_is_run_with_the_views_of_flag_or_spec(boxes_files, tmp_path, capsys):
    line = ["evaluate", "-m", str(boxes_files.model), "-r", str(tmp_path)]
    assert main(["faster_rcnn", *line, "-e", str(boxes_files.spec), "--tta", "0.5,flip"]) == 0
    assert "test-time augmentation (flip,0.5): up to 4 views" in capsys.readouterr().out
    spec = str(with_views(boxes_files, tmp_path))
    assert main(["faster_rcnn", *line, "-e", spec, "--tta", "none"]) == 0
    assert "test-time augmentation" not in capsys.readouterr().out
    assert main(["faster_rcnn", *line, "-e", spec, "--tta", "up"]) == 2
    assert "--tta up: 'up' is no view: expected `flip`, scales" in capsys.readouterr().err


def test_a_graph_looks_at_one_view_and_says_so(boxes_files, tmp_path, capsys):
    line = ["evaluate", "-m", str(boxes_files.graph), "-r", str(tmp_path)]
    assert main(["faster_rcnn", *line, "-e", str(boxes_files.spec), "--tta", "flip"]) == 2
    assert "looks at one view, as it was exported: leave the flag out" in capsys.readouterr().err
    assert main(["faster_rcnn", *line, "-e", str(with_views(boxes_files, tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "test-time augmentation (tta) is left out" in printed
    assert "looks at one view, as it was exported; a .tlt runs with it in JAX" in printed


def test_an_export_leaves_the_views_out_and_says_so(boxes_files, tmp_path, capsys, monkeypatch):
    seen = []

    def stop(model, experiment, options, reporter):
        seen.append(experiment)
        raise ExportError("far enough")

    monkeypatch.setattr("rcnn_jax.export.command.make_plan", stop)
    line = ["-m", str(boxes_files.model), "-o", str(tmp_path / "out.onnx")]
    spec = str(with_views(boxes_files, tmp_path))
    assert main(["faster_rcnn", "export", *line, "-e", spec]) != 0
    assert "(tta) is left out: an exported graph looks at one view of an image" in (
        capsys.readouterr().out
    )
    assert (seen[0].inference.views, seen[0].evaluation.views) == (None, None)
