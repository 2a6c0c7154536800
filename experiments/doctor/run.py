"""Measures what `doctor` takes beside decoding, on scenes that are made up.

    taskset -c 0 python experiments/doctor/run.py OUTPUT_FOLDER [--images 5000]

The images are written once and kept. Times are those of the processor, start of Python included.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from rcnn_jax.data.synthetic import write_kitti
from rcnn_jax.sweep.executors import PROGRAM

HEIGHT, WIDTH = 480, 640
DECODE = """
import sys
from pathlib import Path
from rcnn_jax.data.formats.image_decoder import decode, read_bytes
for path in sorted(Path(sys.argv[1]).glob("images/*")):
    decode(read_bytes(path, str(path)), "rgb", str(path))
"""


def processor_seconds(words: list[str], accepted: tuple[int, ...] = (0,)) -> float:
    """Returns user and system time of a command.

    Raises:
      SystemExit: it ended with another exit code than those accepted.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode
    if code not in accepted:
        sys.exit(f"{' '.join(words)}: ended with exit code {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Makes the images, and prints the times as JSON."""
    parser = argparse.ArgumentParser(description="What doctor takes.")
    parser.add_argument("output", type=Path, metavar="OUTPUT_FOLDER")
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    root = args.output / f"kitti_{args.images}"
    if len(list(root.glob("labels/*.txt"))) < args.images:
        write_kitti(
            root,
            seed=0,
            count=args.images,
            height=HEIGHT,
            width=WIDTH,
            image_extension=".jpg",
        )
    decoding = processor_seconds([sys.executable, "-c", DECODE, str(root)])
    page = args.output / "doctor.html"
    words = [*PROGRAM, "doctor", str(root), "-o", str(page)]
    doctor = processor_seconds(words, accepted=(0, 1, 2))  # 1: warnings, 2: errors
    times = {"decoding": decoding, "doctor": doctor, "beside decoding": doctor - decoding}
    print(json.dumps({name: round(seconds, 1) for name, seconds in times.items()}))


if __name__ == "__main__":
    main()
