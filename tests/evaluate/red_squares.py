"""A detector of red squares, exact in what it does, and images for it: a model that nobody must train."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rcnn_jax.settings.network import PixelSettings
from rcnn_jax.spec.load import parse_spec
from rcnn_jax.structures import Detections
from rcnn_jax.tasks.build import build_experiment
from rcnn_jax.tasks.experiment import Experiment
from tests.e2e.tiny import write_tiny

MOST = 8


@dataclass(frozen=True)
class RedSquares:
    """Finds squares whose channel 0, normalised, is above a limit while channel 2 is below it.

    Attributes:
      trained: how its pixels were normalised in training.
      spec: how the spec says they are.
      score: of everything it finds.
    """

    trained: PixelSettings
    spec: PixelSettings
    score: float = 0.9
    path: Path = Path("red.onnx")
    report_name: str = "red"

    def predictor(self, experiment, test):
        del experiment

        def predict(images):
            shape = (len(images), MOST)
            out = Detections(
                boxes=np.zeros((*shape, 4), np.float32),
                scores=np.full(shape, self.score, np.float32),
                classes=np.zeros(shape, np.int32),
                valid=np.zeros(shape, bool),
            )
            for number, image in enumerate(np.asarray(images, np.float32)):
                seen = (image - self.spec.mean) / self.spec.std
                high, low = (
                    (np.array((200, 90)) - self.trained.mean[0]) / self.trained.std[0]
                ).tolist()
                top = (255 - self.trained.mean[0]) / self.trained.std[0]
                mask = (seen[..., 0] > high) & (seen[..., 0] <= top + 1e-3) & (seen[..., 2] < low)
                mask &= seen[..., 2] >= -self.trained.mean[2] / self.trained.std[2] - 1e-3
                count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
                for slot, (x, y, w, h, _) in enumerate(stats[1 : min(count, MOST + 1)]):
                    out.boxes[number, slot] = (y, x, y + h, x + w)
                    out.valid[number, slot] = self.score > test.detections.score_threshold
            return out, None

        return predict


def write_red(root: Path, images: int = 6) -> Path:
    """Writes images of three red squares on grey in the KITTI layout, and returns their spec."""
    text = write_tiny(root, images=images).read_text().replace("'bgr'", "'rgb'")
    rng = np.random.default_rng(0)
    for path in sorted((root / "data" / "images").glob("*.png")):
        image = np.full((96, 96, 3), 128, np.uint8)
        rows = []
        # All above the diagonal: swapped boxes must not meet each other.
        for corner in ((2, 30), (2, 64), (34, 64)):
            y, x = np.array(corner) + rng.integers(0, 8, 2)
            side = int(rng.integers(14, 24))
            image[y : y + side, x : x + side] = (40, 40, 250)  # BGR, as OpenCV writes it
            rows.append(f"disc 0 0 0 {x} {y} {x + side} {y + side} 0 0 0 0 0 0 0\n")
        cv2.imwrite(str(path), image)
        (root / "data" / "labels" / f"{path.stem}.txt").write_text("".join(rows))
    spec = root / "spec.txt"
    spec.write_text(text)
    return spec


def red_experiment(spec: Path) -> Experiment:
    """Returns the experiment of a spec of `write_red`."""
    return build_experiment(
        parse_spec(spec.read_text(), "spec.txt", "faster_rcnn").config, "faster_rcnn"
    )
