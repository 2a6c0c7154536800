"""Settings of the data: canvas, augmentation, ground truth, loader."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """Geometry from the image file to the canvas; one function reads it everywhere.

    Attributes:
      mode: `pad_crop` keeps pixels, pads bottom/right and crops to the canvas; `stretch` resizes both
        axes to the canvas; `keep_aspect` scales to fit and pads bottom/right; `short_side` scales the
        short side to `short_side` unless the long side would exceed `long_side` (0: no limit) and pads
        to a bucket.
      height: canvas height; in mode `short_side` that of exported graphs, 0 where the spec has none.
      width: canvas width, likewise.
      crop: (top, left, bottom, right) in source pixels taken before padding, mode `pad_crop`, or None.
      prescale: (height, width) in pixels the source is scaled to first, mode `pad_crop`, or None.
      short_side: pixels, mode `short_side`.
      long_side: pixels, mode `short_side`.
      multiple: bucket sides are multiples of this, mode `short_side`.
    """

    mode: Literal["pad_crop", "stretch", "keep_aspect", "short_side"]
    height: int = 0
    width: int = 0
    crop: tuple[int, int, int, int] | None = None
    prescale: tuple[int, int] | None = None
    short_side: int = 0
    long_side: int = 0
    # Buckets, because each canvas size is a compilation; 64 is a multiple of every stride there is.
    multiple: int = 64

    def on_one_canvas(self) -> "GeometrySettings":
        """Returns the geometry of a program with one input size, where the spec names one."""
        if self.mode != "short_side" or not self.height:
            return self
        return GeometrySettings(mode="keep_aspect", height=self.height, width=self.width)


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random changes of training images; every default is "no change".

    Attributes:
      hflip_probability: in [0, 1].
      vflip_probability: in [0, 1].
      zoom_min: smallest magnification, > 0.
      zoom_max: largest magnification.
      translate_max_x: largest shift in network pixels.
      translate_max_y: largest shift in network pixels.
      rotate_max_degrees: largest angle.
      rotate_probability: in [0, 1].
      brightness_stddev: of a shift on the 0..1 scale, truncated at two deviations.
      hue_rotation_max: degrees; the deviation is half of it, truncated at two deviations.
      saturation_shift_max: factor is 1 + U(-max, max).
      contrast_scale_max: the deviation is half of it, truncated at two deviations.
      contrast_center: grey value on the 0..1 scale that contrast leaves alone.
      min_box_side: boxes that end up narrower or lower than this many pixels are dropped.
      shrink_min: smallest size of the whole image as a fraction of the one that fills the canvas,
        in (0, 1]; the image stays at the top left and the rest is padding.
      copy_paste_probability: in [0, 1], that objects of another image are pasted.
      mosaic_probability: in [0, 1], that an image is joined from parts of four.
      mosaic_off: in [0, 1], the last fraction of the steps of a run that has no mosaics.
    """

    hflip_probability: float = 0.0
    vflip_probability: float = 0.0
    zoom_min: float = 1.0
    zoom_max: float = 1.0
    translate_max_x: float = 0.0
    translate_max_y: float = 0.0
    # Degrees, although the spec's field says `rad`: the original reads it so, and specs were tuned
    # with it.
    rotate_max_degrees: float = 0.0
    rotate_probability: float = 1.0
    brightness_stddev: float = 0.0
    hue_rotation_max: float = 0.0
    saturation_shift_max: float = 0.0
    contrast_scale_max: float = 0.0
    contrast_center: float = 0.5
    min_box_side: float = 1.0
    shrink_min: float = 1.0
    copy_paste_probability: float = 0.0
    mosaic_probability: float = 0.0
    mosaic_off: float = 0.15

    @property
    def composes(self) -> bool:
        """Whether an image may show parts of others."""
        return self.copy_paste_probability > 0 or self.mosaic_probability > 0

    def mosaic_steps(self, total_steps: int) -> int:
        """Returns after how many steps of a run mosaics end."""
        return total_steps - round(self.mosaic_off * total_steps)


@dataclass(frozen=True, kw_only=True)
class GroundTruthSettings:
    """Padding and selection of annotations for `GroundTruth`.

    Attributes:
      max_objects: m, the padded number.
      on_overflow: `error` stops the run naming the image; `truncate` keeps the first m.
      mask_size: s of the box-cropped masks; 0 for none.
      skip_crowd: crowd objects are left out of training altogether.
    """

    max_objects: int
    on_overflow: Literal["error", "truncate"] = "error"
    mask_size: int = 0
    skip_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class TilingSettings:
    """How images are cut into tiles.

    Attributes:
      size: side of a tile in pixels of the image.
      overlap: of neighbouring tiles, at least, as a fraction of the side.
    """

    size: int
    overlap: float


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Batch size, seed, threads and prefetch of a loader.

    Attributes:
      global_batch: images per step over all devices and processes.
      seed: of shuffling and augmentation.
      threads: worker threads of one process.
      prefetch: batches held ready.
      repeat_threshold: fraction of images below which a class makes its images more frequent; 0 for
        none, see `loader.repeats`.
    """

    global_batch: int
    seed: int
    threads: int = 2
    # At least as many as threads, or some of them wait for a slot.
    prefetch: int = 4
    repeat_threshold: float = 0.0
