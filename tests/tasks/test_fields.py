"""No field claims an effect that it lacks: each is read by what acts on it, or says that nothing does.

Specs of every generation are given to the real readers with a config that notes what they read.
"""

from contextlib import suppress
from pathlib import Path

import pytest

from rcnn_jax.data.sources.categories import Categories
from rcnn_jax.errors import RcnnError
from rcnn_jax.kinds import SpecKind
from rcnn_jax.spec import load_spec, parse_spec
from rcnn_jax.spec.explain import all_fields
from rcnn_jax.spec.kinds import TABLES
from rcnn_jax.spec.load import LoadedSpec
from rcnn_jax.tasks.build import AXIS
from rcnn_jax.tasks.dataset_convert import convert_detectnet
from rcnn_jax.tasks.families import family
from tests.spec.samples import FASTER, MASK
from tests.tasks.recorder import Recorder

GENERATIONS = Path(__file__).parents[1] / "spec" / "generations"

READ_ELSEWHERE = {
    "enc_key": "cli.session.read_spec takes it out before anything else sees the config",
    "recipe": "spec.recipes sets its fields before there is a config",
    "recipe_fields": "the same: what they name is not set again",
    "training_config.optimizer.rmsprop": "what is left where neither adam nor sgd is given",
}
OF_FASTER = [
    FASTER,
    FASTER.replace("soft_start { base_lr: 0.02 start_lr: 0.002 soft_start: 0.1 }", "cosine { }"),
    FASTER.replace(
        'tfrecords_path: "records/*"\n    image_directory_path: "images"',
        'kitti_directory_path: "kitti" kitti_split_file: "split.txt"',
    ).replace(
        "validation_fold: 0",
        'validation_data_source { kitti_directory_path: "kitti" kitti_split_file: "split.txt" }',
    ),
    FASTER.replace(
        """data_sources {
    tfrecords_path: "records/*"
    image_directory_path: "images"
  }""",
        'tfds_name: "voc/2007"',
    ).replace("validation_fold: 0", ""),
    FASTER.replace(
        "optimizer { sgd { momentum: 0.9 } }",
        'optimizer { adamw { } } early_stopping { monitor: "map" patience: 3 } '
        "visualizer { enabled: true mlflow_config { } }",
    ),
    FASTER.replace("size_height_width { height: 256 width: 320 }", "size_min { min: 256 }").replace(
        "output_image_width: 320 output_image_height: 256", ""
    )
    + """
    inference_config {
      images_dir: "i"
      labels_dump_dir: "l"
      trt_inference { etlt_model { model: "m" } calibration_cache: "c" }
    }
    evaluation_config { trt_evaluation { etlt_model { model: "m" } calibration_cache: "c" } }
    """,
]
OF_MASK = [
    MASK,
    MASK.replace("num_classes: 4", 'num_classes: 4 tfds_name: "coco/2017"'),
    MASK.replace("num_classes: 4", "num_classes: 4 short_side: 800 long_side: 1333"),
    MASK + "adamw { } early_stopping { patience: 3 } mlflow_config { }",
    MASK.replace(
        "num_classes: 4",
        'num_classes: 4 coco_train_json: "t.json" coco_train_image_dir: "t" '
        'val_json_file: "v.json" coco_val_image_dir: "v"',
    ),
]
CATEGORIES = Categories((1, 2, 3), ("a", "b", "c"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with the files that are looked for before further fields are read."""
    root = tmp_path_factory.mktemp("data")
    for name in ("records", "val", "images", "kitti"):
        (root / name).mkdir()
    for name in ("records/a-fold-000-of-002", "records/a-fold-001-of-002", "val/a"):
        (root / name).touch()
    return root


def specs(kind: SpecKind, folder: Path) -> list[LoadedSpec]:
    """Specs that together take every branch of the readers."""
    texts = [path.read_text() for path in sorted(GENERATIONS.glob(f"*_{kind}.txt"))]
    texts += {"faster_rcnn": OF_FASTER, "mask_rcnn": OF_MASK, "dataset_convert": []}[kind]
    return [
        parse_spec(text.replace("/data/", f"{folder}/").replace('"records', f'"{folder}/records'))
        for text in texts
    ]


def read_by_a_run(spec: LoadedSpec, folder: Path) -> set[str]:
    """Paths that the commands read when they start to work on the spec."""
    read: set[str] = set()
    config = Recorder(spec.config, TABLES[spec.kind], read)
    if spec.kind == "dataset_convert":
        with suppress(RcnnError):
            convert_detectnet(config, folder / "out", None)
        return read
    # not build_experiment, which also writes every field down
    experiment = family(spec.kind).read(config, axis_name=AXIS, categories=CATEGORIES)
    for opened in (experiment.train_source, experiment.eval_source):
        with suppress(RcnnError, OSError):
            if opened is not None:
                opened()
    family(spec.kind).named_files(config)
    with suppress(RcnnError, OSError):  # the classes of the annotations
        family(spec.kind).read(config, axis_name=AXIS, categories=None)
    return read


@pytest.fixture(scope="module")
def read(folder: Path) -> dict[SpecKind, set[str]]:
    """{kind: paths that anything reads}."""
    return {
        kind: set().union(*(read_by_a_run(spec, folder) for spec in specs(kind, folder)))
        for kind in TABLES
    }


@pytest.mark.parametrize("kind", list(TABLES))
def test_every_field_is_read_or_says_that_nothing_does(
    kind: SpecKind, read: dict[SpecKind, set[str]]
) -> None:
    rows = [(path, field) for _, path, field in all_fields(kind)]
    off = tuple(f"{path}." for path, field in rows if field.no_effect)
    claims = {
        path
        for path, field in rows
        if not (field.no_effect or field.only_checked or path.startswith(off))
    }
    assert claims - read[kind] - READ_ELSEWHERE.keys() == set()


@pytest.mark.parametrize("kind", list(TABLES))
def test_no_field_acts_that_says_it_does_not(
    kind: SpecKind, read: dict[SpecKind, set[str]]
) -> None:
    without = {path for _, path, field in all_fields(kind) if field.no_effect or field.only_checked}
    assert without & read[kind] == set()


def test_the_recorder_sees_nothing_where_nothing_reads() -> None:
    spec = load_spec(sorted(GENERATIONS.glob("*_faster_rcnn.txt"))[0])
    paths: set[str] = set()
    config = Recorder(spec.config, TABLES[spec.kind], paths)
    assert paths == set()
    assert config.model_config.arch == spec.config.model_config.arch
    assert paths == {"model_config", "model_config.arch"}
