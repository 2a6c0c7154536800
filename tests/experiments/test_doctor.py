"""The measurement of the doctor, on a handful of images."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments/doctor/run.py"


def test_times_are_of_all_images(tmp_path):
    words = [sys.executable, str(SCRIPT), str(tmp_path), "--images", "4"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    times = json.loads(done.stdout)
    assert set(times) == {"decoding", "doctor", "beside decoding"}
    assert times["decoding"] > 0
    assert times["doctor"] > 0
    assert len(list(tmp_path.glob("kitti_4/images/*.jpg"))) == 4
    assert "kitti_4" in (tmp_path / "doctor.html").read_text()
