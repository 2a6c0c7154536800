"""What the algorithms need to know, as frozen values in the words of the field.

`tasks/` reads the ConfigDict once and fills these; nothing below `tasks/` ever sees a ConfigDict.
Two detectors differ in the numbers they put here, not in the code that reads them.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AnchorConvention:
    """Where anchors sit: centres at (i + offset) * stride; base boxes rounded to whole pixels or not."""

    offset: float = 0.5
    rounding: bool = False


@dataclass(frozen=True, kw_only=True)
class ConvConvention:
    """How convolutions pad and batch norm counts.

    Attributes:
      padding: `symmetric` pads (k-1)//2 on both sides (patched Keras, torchvision); `same` is
        TensorFlow's, with the odd pixel at the bottom and right.
      stride_on: which convolution of a bottleneck carries the stride: `first` or `middle`.
      bn_eps: added to the variance.
      bn_momentum: share of the old moving average kept in a step.
    """

    padding: Literal["symmetric", "same"] = "symmetric"
    stride_on: Literal["first", "middle"] = "first"
    bn_eps: float = 1e-3
    bn_momentum: float = 0.99


TAO_FRCNN = ConvConvention()
TAO_MRCNN = ConvConvention(padding="same")
TORCHVISION = ConvConvention(stride_on="middle", bn_eps=1e-5, bn_momentum=0.9)


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """From uint8 to network values: (pixel - mean) / std, per channel in network order.

    Attributes:
      channel_order: `rgb`, `bgr` or `l` (one grey channel): the order of `Batch.images`.
      mean: one value per channel, in the order of `channel_order`, in 0..255.
      std: one divisor per channel.
    """

    channel_order: Literal["rgb", "bgr", "l"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Number of channels of the network input: 3 or 1."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class GeometrySettings:
    """From the image file to the canvas of the network; one function reads this everywhere.

    Attributes:
      mode: `pad_crop` keeps pixels, pads bottom/right and crops to the canvas; `stretch` resizes both
        axes to the canvas; `keep_aspect` scales to fit and pads bottom/right; `short_side` scales the
        short side to `short_side` unless the long side would exceed `long_side` (0: no limit) and pads
        to a bucket.
      height: canvas height; 0 in mode `short_side`.
      width: canvas width; 0 in mode `short_side`.
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
    multiple: int = 64


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
      shrink_min: smallest size of the whole image as a share of the one that fills the canvas, in
        (0, 1]; the image stays at the top left and the rest is padding.
    """

    hflip_probability: float = 0.0
    vflip_probability: float = 0.0
    zoom_min: float = 1.0
    zoom_max: float = 1.0
    translate_max_x: float = 0.0
    translate_max_y: float = 0.0
    rotate_max_degrees: float = 0.0
    rotate_probability: float = 1.0
    brightness_stddev: float = 0.0
    hue_rotation_max: float = 0.0
    saturation_shift_max: float = 0.0
    contrast_scale_max: float = 0.0
    contrast_center: float = 0.5
    min_box_side: float = 1.0
    shrink_min: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GroundTruthSettings:
    """How annotations become the padded `GroundTruth`.

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
class LoaderSettings:
    """How batches are made.

    Attributes:
      global_batch: images per step over all devices and processes.
      seed: of shuffling and augmentation.
      threads: worker threads of one process.
      prefetch: batches held ready.
    """

    global_batch: int
    seed: int
    threads: int = 2
    prefetch: int = 4


OutsideAnchors = Literal["train", "ignore", "auto"]
"""What becomes of anchors that leave the image, see `RpnTargetSettings`."""


@dataclass(frozen=True, kw_only=True)
class RpnTargetSettings:
    """Which anchors learn what.

    Attributes:
      positive_overlap: an anchor with at least this IoU is positive.
      negative_overlap: an anchor below this IoU with everything is negative.
      force_match: which anchors become positive below the threshold: `unmatched_best`, the best anchor
        of each ground truth that got none (TAO Faster R-CNN); `best`, the best anchor of each ground
        truth (TAO Mask R-CNN); `ties`, every anchor that ties the best (torchvision).
      outside: what becomes of anchors that leave the image. `train`: they are anchors like others
        (TAO Mask R-CNN). `ignore`: they take no part (TAO Faster R-CNN). `auto`: they take no part,
        except those of a size that lies inside the image nowhere, which nothing else would train.
      anchors_per_cell: how many sizes there are; `auto` needs it.
      batch_per_image: anchors sampled for the objectness loss.
      positive_fraction: largest share of positives in the sample.
      box_loss_on_sample: box loss on sampled positives only, else on all positives.
    """

    positive_overlap: float = 0.7
    negative_overlap: float = 0.3
    force_match: Literal["unmatched_best", "best", "ties"] = "best"
    outside: OutsideAnchors = "train"
    anchors_per_cell: int = 1
    batch_per_image: int = 256
    positive_fraction: float = 0.5
    box_loss_on_sample: bool = True


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """From RPN outputs to proposals.

    Attributes:
      pre_nms: candidates per level that enter NMS.
      post_nms: proposals kept over all levels.
      nms_threshold: a candidate is suppressed when its IoU with a better one is greater.
      min_size: proposals with a side not greater than this many pixels are dropped.
    """

    pre_nms: int
    post_nms: int
    nms_threshold: float = 0.7
    min_size: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoiSamplingSettings:
    """Which proposals train the heads.

    Attributes:
      batch_per_image: r.
      foreground_fraction: largest share of foreground rois.
      foreground_overlap: IoU of a foreground roi is at least this.
      background_high: IoU of a background roi is below this.
      background_low: IoU of a background roi is at least this.
      append_gt: ground-truth boxes join the proposals.
      with_replacement: too few candidates of one kind are drawn more than once (TAO Faster R-CNN)
        instead of leaving rois invalid.
    """

    batch_per_image: int
    foreground_fraction: float = 0.25
    foreground_overlap: float = 0.5
    background_high: float = 0.5
    background_low: float = 0.0
    append_gt: bool = True
    with_replacement: bool = False


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """From head outputs to detections.

    Attributes:
      score_threshold: boxes with a score not greater than this are dropped.
      nms_threshold: per-class NMS, suppress when the IoU is greater.
      max_detections: d.
    """

    score_threshold: float
    nms_threshold: float
    max_detections: int


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which optimizer with what; the learning rate comes from a schedule.

    Attributes:
      kind: `sgd`, `adam` or `rmsprop`.
      momentum: sgd.
      nesterov: sgd.
      beta_1: adam.
      beta_2: adam.
      epsilon: adam, rmsprop.
      amsgrad: adam.
      rho: rmsprop.
      decay: the rate is divided by 1 + decay * step.
      l1: weight of the L1 penalty on kernels.
      l2: weight of the L2 penalty, the gradient of l2 * |w|^2 / 2 * l2_factor.
      l2_factor: 2.0 where the penalty is l2 * |w|^2 (Keras), 1.0 where it is half of that.
      regularize: which leaves are penalised: `kernels`, or `kernels_and_gamma` (TAO Mask R-CNN).
      bias_gradient_factor: gradients of biases and betas are multiplied by this.
      clip_norm: global norm the gradients are clipped to; 0 for none.
      ema_decay: share of the old average kept in a step; 0 for no average.
    """

    kind: Literal["sgd", "adam", "rmsprop"]
    momentum: float = 0.0
    nesterov: bool = False
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False
    rho: float = 0.9
    decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    l2_factor: float = 1.0
    regularize: Literal["kernels", "kernels_and_gamma"] = "kernels"
    bias_gradient_factor: float = 1.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SoftStartSchedule:
    """Linear rise over a share of the run, then divided at every annealing point (shares of the run)."""

    base_lr: float
    start_lr: float
    soft_start: float
    annealing_points: tuple[float, ...]
    annealing_divider: float


@dataclass(frozen=True, kw_only=True)
class StepSchedule:
    """base_lr * gamma^n with n the completed spans of `step_size` percent of the run."""

    base_lr: float
    gamma: float
    step_size: float


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """Linear rise over a share of the run, then half a cosine down to end_lr."""

    base_lr: float
    start_lr: float
    soft_start: float
    end_lr: float


@dataclass(frozen=True, kw_only=True)
class WarmupSchedule:
    """Linear warm-up over steps, then a fall.

    Attributes:
      init_lr: rate after the warm-up.
      warmup_lr: rate of the first step.
      warmup_steps: length of the rise.
      fall: `piecewise`, init_lr times the level of the last boundary reached; `cosine`, half a
        cosine from init_lr to 0 at the end of the run (an extension).
      boundaries: steps at which the rate falls.
      levels: factor of init_lr from each boundary on.
    """

    init_lr: float
    warmup_lr: float
    warmup_steps: int
    fall: Literal["piecewise", "cosine"] = "piecewise"
    boundaries: tuple[int, ...] = ()
    levels: tuple[float, ...] = ()


ScheduleSettings = SoftStartSchedule | StepSchedule | CosineSchedule | WarmupSchedule


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long a run lasts and what happens on the way; periods of 0 never happen.

    Attributes:
      num_epochs: length in epochs; 0 when total_steps gives it.
      total_steps: length in steps; 0 when num_epochs gives it.
      evaluate_epochs: epochs between validations.
      evaluate_steps: steps between validations.
      save_epochs: epochs between bundles.
      save_steps: steps between bundles.
      log_steps: steps between lines of metrics.jsonl and TensorBoard.
      keep_checkpoints: newest resumable checkpoints kept.
      patience: epochs without a better training loss before the run ends early; 0 for never.
      min_delta: a loss counts as better when it is lower by more than this.
      lr_scaling: the learning rate is multiplied by the number of devices, or not.
      images_in_tensorboard: augmented images written at the start.
      found_in_tensorboard: validation images written with what was found on them, per validation.
      tensorboard: write TensorBoard files.
      weight_histograms: write histograms of the weights after every epoch.
    """

    num_epochs: int = 0
    total_steps: int = 0
    evaluate_epochs: int = 0
    evaluate_steps: int = 0
    save_epochs: int = 0
    save_steps: int = 0
    log_steps: int = 10
    keep_checkpoints: int = 2
    patience: int = 0
    min_delta: float = 0.0
    lr_scaling: Literal["devices", "none"] = "none"
    images_in_tensorboard: int = 0
    found_in_tensorboard: int = 0
    tensorboard: bool = True
    weight_histograms: bool = False


@dataclass(frozen=True, kw_only=True)
class VocMetrics:
    """Average precision per class at one or several IoU thresholds.

    Attributes:
      iou_thresholds: each in (0, 1).
      score_threshold: detections below do not count.
      method: `voc07` is the 11-point mean, `voc12` the area under the envelope.
      plot: write a picture of the precision-recall curves.
    """

    iou_thresholds: tuple[float, ...]
    score_threshold: float
    method: Literal["voc07", "voc12"]
    plot: bool = False

    @property
    def main_metric(self) -> str:
        """The metric that says which weights are the best so far."""
        return "mAP"


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """The twelve numbers of COCO for boxes and, with masks, twelve more.

    Attributes:
      annotations: COCO annotation file that detections are held against.
      masks: judge masks too.
      max_detections: detections per image that the model can yield.
      images: at most so many images are looked at, the first ones of the validation data.
    """

    annotations: str
    masks: bool
    max_detections: int
    images: int

    @property
    def main_metric(self) -> str:
        """The metric that says which weights are the best so far."""
        return "mask_AP" if self.masks else "AP"


MetricSettings = VocMetrics | CocoMetrics
