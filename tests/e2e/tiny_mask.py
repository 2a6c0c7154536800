"""A real but tiny Mask R-CNN: the shipped tiny config on made-up cells of 64 x 64 pixels."""

from pathlib import Path

from rcnn_jax.data.synthetic import write_coco

CONFIG = Path(__file__).parents[2] / "configs" / "mask_rcnn" / "tiny.txt"


def write_tiny(root: Path, *changes: tuple[str, str]) -> Path:
    """Writes data and spec below root and returns the spec.

    Args:
      root: a folder.
      changes: (old, new) texts replaced in the spec; old must be there.
    """
    write_coco(root / "data", seed=3, train_count=6, val_count=3, height=60, width=64)
    text = CONFIG.read_text().replace("out/tiny_masks", str(root / "data"))
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    spec = root / "spec.txt"
    spec.write_text(text)
    return spec
