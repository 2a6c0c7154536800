"""TensorFlow Datasets by name, read without TensorFlow.

    name + folder --find_dataset--> prepared folder --TfdsSplit--> examples --TfdsSource--> masks
                                                                            --TfdsBoxes--> boxes

The library reads sets stored as `array_record`, `RecordFile` those stored as `tfrecord`, its default.
The library also knows features, splits and class names of a set. Examples are parsed here: neither
TensorFlow nor the code that made the set is needed, and nothing is ever downloaded.

Which features a set has is declared by its `features.json`. Most have boxes only: `coco/2014` and
`coco/2017` leave the masks out. `lvis` has them.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.findings import Finding
from rcnn_jax.data.formats.image_size import encoded_image_size
from rcnn_jax.data.formats.mask_rcnn_records import decode_mask
from rcnn_jax.data.formats.tfrecord import RecordFile, decode_example
from rcnn_jax.data.loader import images
from rcnn_jax.data.loader.mask_crops import Raster
from rcnn_jax.data.sources.annotations import Annotation
from rcnn_jax.data.sources.digest import ImageDigest
from rcnn_jax.data.sources.masks import classes_of
from rcnn_jax.errors import DataError
from rcnn_jax.optional import require

FOLDER_VARIABLE = "TFDS_DATA_DIR"
"""Names the folder of data sets where the spec does not; the library reads it too."""


@dataclass(frozen=True, kw_only=True)
class ObjectFeatures:
    """Keys of the object features in the examples of a data set.

    Attributes:
      names: of the classes; a label is an index.
      box: normalised (y1, x1, y2, x2).
      label: class index.
      crowd: whether the object is a crowd; None where the set has no such feature.
      difficult: whether evaluation should pass the object over; None for sets without.
      area: pixels of the mask; None for sets without.
      mask: an image of the size of the picture, 0 outside the object; None for sets without masks.
      keys: all features of objects, for messages.
    """

    names: tuple[str, ...]
    box: str
    label: str
    crowd: str | None
    difficult: str | None
    area: str | None
    mask: str | None
    keys: tuple[str, ...]


class TfdsSplit:
    """The examples of one split of a prepared data set, by number; safe to use from threads.

    Args:
      name: `name`, `name/config` or `name/config:version`.
      split: `train`, `validation`, `train[:10%]`, ... in the language of the library.
      data_dir: see `find_dataset`.

    Raises:
      DataError: the data set is not there, cannot be read at random, has no such split, no images
        or objects.
      MissingDependencyError: the library is absent.
    """

    def __init__(self, name: str, split: str, data_dir: str | None):
        builder = _open(name, data_dir)
        self.objects = _object_features(builder.info.features, name)
        self._label = f"{name}, {split}"
        self._version = str(builder.info.full_name)
        self._examples = _random_access(builder, split, name)
        if not len(self._examples):
            raise DataError(f"{self._label}: holds no image")

    def __len__(self) -> int:
        return len(self._examples)

    def name(self, index: int) -> str:
        """Data set, split and number of the example."""
        return f"{self._label}: example {index}"

    def digest(self, index: int) -> ImageDigest:
        """The version of the data set: a prepared version never changes.

        Reading 20 GB of COCO at every start to make sure of it would take minutes.
        """
        return ImageDigest(index, self._version)

    def example(self, index: int) -> dict[str, list]:
        """The features of an example.

        Raises:
          DataError: it is damaged, or has no image.
        """
        example = decode_example(self._examples[index], self.name(index))
        if not example.get("image"):
            raise DataError(f"{self.name(index)}: has no image")
        return example

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is damaged.
        """
        return images.read_image(self.example(index)["image"][0], channel_order, self.name(index))


class TfdsSource:
    """One split of a prepared data set for Mask R-CNN. The category id of label i is i + 1.

    Args:
      name: see `TfdsSplit`.
      split: see `TfdsSplit`.
      data_dir: see `find_dataset`.
      class_ids: category id -> class in [0, n).
      class_names: of the classes.
      masks: whether masks are wanted.

    Raises:
      DataError: as `TfdsSplit`, or masks are wanted and it has none.
      MissingDependencyError: the library is absent.
    """

    findings: tuple[Finding, ...] = ()

    def __init__(
        self,
        name: str,
        split: str,
        data_dir: str | None,
        class_ids: Mapping[int, int],
        class_names: tuple[str, ...],
        *,
        masks: bool,
    ):
        self._split = TfdsSplit(name, split, data_dir)
        self.class_names = class_names
        self._class_ids = dict(class_ids)
        self._objects = self._split.objects
        if masks and self._objects.mask is None:
            raise DataError(
                f"{name}: this data set of TensorFlow Datasets has no instance masks; its objects "
                f"have {', '.join(self._objects.keys)}. Train on boxes with include_mask: False, "
                "take a set that has them (lvis), or read the original annotations with "
                "coco_train_json and coco_train_image_dir"
            )
        self._masks = masks

    def __len__(self) -> int:
        return len(self._split)

    def name(self, index: int) -> str:
        """Data set, split and number of the example."""
        return self._split.name(index)

    def source_id(self, index: int) -> int:
        """The image id of the set; where it has none, the number of the example from 1 on."""
        # COCO evaluates by ids, so the set's own come first; some sets have texts there.
        stated = self._split.example(index).get("image/id")
        return int(stated[0]) if stated and isinstance(stated[0], int) else index + 1

    def file_name(self, index: int) -> str:
        """The name of the image file; may be empty."""
        example = self._split.example(index)
        stated = example.get("image/filename") or example.get("image/file_name")
        return stated[0].decode("utf-8", "replace") if stated else ""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the encoded image."""
        return encoded_image_size(self._split.example(index)["image"][0], self.name(index))

    def image(self, index: int, channel_order: str) -> np.ndarray:
        """u8[h w c].

        Raises:
          DataError: the image is damaged.
        """
        return self._split.image(index, channel_order)

    def digest(self, index: int) -> ImageDigest:
        """See `TfdsSplit.digest`."""
        return self._split.digest(index)

    def annotation(self, index: int) -> Annotation:
        """The objects of the image; boxes without area are dropped when batches are made.

        Raises:
          DataError: a label is unknown, a box is not finite, or lists differ in length.
        """
        example, name, keys = self._split.example(index), self.name(index), self._objects
        boxes = read_boxes(example, keys, name)
        count = len(boxes)
        if not np.isfinite(boxes).all():
            raise DataError(f"{name}: a box is not finite")
        height, width = encoded_image_size(example["image"][0], name)
        labels = read_column(example, keys.label, count, name)
        crowd = read_column(example, keys.crowd, count, name)
        areas = read_column(example, keys.area, count, name)
        masks = None
        if self._masks:
            encoded = read_column(example, keys.mask, count, name)
            size = (height, width)
            # Decoded when a batch asks for them: masks of full size would fill the memory.
            masks = tuple(
                Raster(functools.partial(decode_mask, png, name, size)) for png in encoded
            )
        return Annotation(
            boxes=boxes * np.array([height, width, height, width], np.float32),
            classes=classes_of([label + 1 for label in labels], self._class_ids, name),
            crowd=np.array(crowd or [False] * count, bool),
            masks=masks,
            areas=np.array(areas, np.float32) if areas else None,
        )


def read_categories(name: str, data_dir: str | None) -> dict[int, str]:
    """Returns {category id from 1 on: class name} of a data set.

    The ids are positions in the set's list of labels, not those of the annotations it was made from:
    TensorFlow Datasets does not keep those.

    Raises:
      DataError: the data set is not there or has no objects.
      MissingDependencyError: the library is absent.
    """
    objects = _object_features(_open(name, data_dir).info.features, name)
    return dict(enumerate(objects.names, start=1))


def find_dataset(name: str, data_dir: str | None) -> Path:
    """Returns the folder of the newest version of a prepared data set.

    Args:
      name: `name`, `name/config` or either with `:version`.
      data_dir: holds the data sets; None means TFDS_DATA_DIR, else `~/tensorflow_datasets`.

    Raises:
      DataError: it is not there; the message says how to prepare it.
    """
    chosen = data_dir or os.environ.get(FOLDER_VARIABLE) or "~/tensorflow_datasets"
    root = Path(chosen).expanduser()
    stem, _, version = name.partition(":")
    folder = root / stem
    # Compared as numbers: "1.10.0" is newer than "1.9.0".
    versions = {
        tuple(int(part) for part in path.parent.name.split(".")): path.parent
        for path in folder.glob(f"{version or '*'}/features.json")
        if path.parent.name.replace(".", "").isdecimal()
    }
    if not versions:
        raise DataError(
            f"{folder}: holds no prepared version{' ' + version if version else ''} of the data "
            f"set '{stem}'. Prepare it once, on a machine that may download, with  tfds build "
            f"{stem} --data_dir={root} --file_format=array_record"
        )
    return versions[max(versions)]


def _open(name: str, data_dir: str | None) -> Any:
    """Returns the library's builder of a prepared data set."""
    folder = find_dataset(name, data_dir)
    library = require("tensorflow_datasets", extra="tfds", purpose=f"tfds_name = '{name}'")
    return library.builder_from_directory(str(folder))


class _TfrecordExamples:
    """Serialized examples in TFRecord files, by number.

    Args:
      parts: the library's list of files, each with how many records to skip and to take.
    """

    def __init__(self, parts: Sequence[Any]):
        self._files, counts = [], []
        for part in parts:
            file = RecordFile(Path(part.filename))
            # -1 is the library's word for all that follow.
            count = len(file) - part.skip if part.take < 0 else part.take
            if part.skip + count > len(file):
                raise DataError(
                    f"{file.path}: holds {len(file)} examples, the data set states "
                    f"{part.skip + count}: prepare it again"
                )
            self._files.append((file, part.skip))
            counts.append(count)
        # Ends of the files in the count of examples: a binary search finds the file of an example.
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> bytes:
        number = int(np.searchsorted(self._ends, index, side="right"))
        file, skip = self._files[number]
        before = int(self._ends[number - 1]) if number else 0
        return file[skip + index - before]


def _random_access(builder: Any, split: str, name: str) -> Any:
    """Returns the serialized examples of a split by number."""
    library = require("tensorflow_datasets", extra="tfds", purpose=f"tfds_name = '{name}'")
    try:
        parts = builder.info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        known = ", ".join(builder.info.splits)
        raise DataError(f"{name}: has no split '{split}'; it has {known} ({error})") from error
    for part in parts:
        if not Path(part.filename).is_file():
            raise DataError(f"{part.filename}: this file of '{name}' is missing: prepare it again")
    stored = builder.info.file_format.value
    if stored == "tfrecord":
        return _TfrecordExamples(parts)
    if stored != "array_record":
        raise DataError(
            f"{builder.data_dir}: is prepared as {stored}; array_record and tfrecord are read. "
            f"Prepare it again in another folder with  tfds build {name} --data_dir=DIR "
            "--file_format=array_record"
        )
    # Raw bytes: `decode_example` parses them, as it does those of TFRecords.
    return builder.as_data_source(
        split=split, deserialize_method=library.decode.DeserializeMethod.RAW_BYTES
    )


def _object_features(features: Any, name: str) -> ObjectFeatures:
    """Finds the boxes, labels and masks among the features of a data set.

    Raises:
      DataError: there is no image, or nothing with a box and a label.
    """
    kinds = require("tensorflow_datasets", extra="tfds", purpose=f"tfds_name = '{name}'").features
    features = dict(features.items())
    if not isinstance(features.get("image"), kinds.Image):
        raise DataError(f"{name}: has no feature 'image'; found {', '.join(features)}")
    for group, feature in features.items():
        parts: Any = getattr(feature, "feature", feature)
        if not isinstance(parts, kinds.FeaturesDict):
            continue
        boxes = _of_kind(parts, kinds.BBoxFeature)
        # Sets with several kinds of labels exist; the one called `label` is the object's.
        labels = sorted(_of_kind(parts, kinds.ClassLabel), key=lambda key: key != "label")
        if boxes and labels:
            masks = _of_kind(parts, kinds.Image)
            return ObjectFeatures(
                names=tuple(parts[labels[0]].names),
                box=f"{group}/{boxes[0]}",
                label=f"{group}/{labels[0]}",
                crowd=f"{group}/is_crowd" if "is_crowd" in parts else None,
                difficult=f"{group}/is_difficult" if "is_difficult" in parts else None,
                area=f"{group}/area" if "area" in parts else None,
                mask=f"{group}/{masks[0]}" if masks else None,
                keys=tuple(parts),
            )
    raise DataError(
        f"{name}: no feature holds objects with boxes and labels; found {', '.join(features)}"
    )


def _of_kind(parts: Any, kind: type) -> list[str]:
    return [key for key, feature in parts.items() if isinstance(feature, kind)]


def read_boxes(example: Mapping[str, list], keys: ObjectFeatures, where: str) -> np.ndarray:
    """Returns the normalised boxes f32[m 4] (y1, x1, y2, x2) of an example.

    Raises:
      DataError: there are not four numbers to a box.
    """
    values = np.array(example.get(keys.box, []), np.float32)
    if values.size % 4:
        raise DataError(f"{where}: {values.size} numbers in '{keys.box}', expected four to a box")
    return values.reshape(-1, 4)


def read_column(example: Mapping[str, list], key: str | None, count: int, where: str) -> list:
    """Returns one value per object, [] where the data set lacks the feature."""
    if key is None:
        return []
    values = example.get(key, [])
    if len(values) != count:
        raise DataError(f"{where}: {count} boxes, but {len(values)} values of '{key}'")
    return values
