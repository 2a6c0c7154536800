"""An image that turns out to be damaged while training runs costs no step."""

import pytest

from rcnn_jax.cli.main import main
from tests.e2e.tiny import write_tiny


@pytest.mark.slow
def test_a_run_stopped_by_a_damaged_image_goes_on_when_it_is_mended(tmp_path, capsys):
    spec = write_tiny(tmp_path, images=6)

    def train(name):
        folder = tmp_path / name
        flags = ["-e", str(spec), "-d", str(folder), "--gpus", "1"]
        return main(["faster_rcnn", "train", *flags]), folder

    code, whole = train("whole")
    assert code == 0
    # the header stays, so that the damage is found when the image is decoded
    images = sorted((tmp_path / "data" / "images").iterdir())
    contents = [image.read_bytes() for image in images]
    capsys.readouterr()
    for image, content in zip(images, contents, strict=True):
        image.write_bytes(content[: len(content) // 2])
        code, folder = train(f"run{image.stem}")
        error = capsys.readouterr().err
        assert code == 2 and "Traceback" not in error and "Grain" not in error
        assert f"{image.name}: " in error and "the file ends early" in error
        image.write_bytes(content)
        if "saved after step" not in error:
            continue  # the image was in the first batch
        assert train(folder.name)[0] == 0
        ours, theirs = (f / "metrics.jsonl" for f in (folder, whole))
        assert ours.read_bytes() == theirs.read_bytes()
        return
    pytest.fail("no damage was found after the first step")
