"""Prints the time from `load(name)` to the first result, beside torchvision's, as a Markdown table.

.venv-peers/bin/python -m benchmarks.tables.first_result PICTURE [--model maskrcnn_resnet50_fpn_v2]

Both start as a new process with the weights on the disk, random ones of torchvision's own builder. Ours
runs twice: the first time its programs are compiled, the second they come from JAX's cache. Commands have
that cache by themselves; a program that uses the library sets JAX_COMPILATION_CACHE_DIR, as is done here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

OURS = """
import json, sys, time
begin = time.perf_counter()
import rcnn_jax
from rcnn_jax.checkpoints import published
row = published.Published(name="coco/timed", url=sys.argv[1], source="torchvision", licence="", size=0,
                          classes=80, box_ap=1.0)
published.PUBLISHED[row.name] = row
imported = time.perf_counter()
model = rcnn_jax.load(row.name)
loaded = time.perf_counter()
model(sys.argv[2])
first = time.perf_counter()
model(sys.argv[2])
print(json.dumps([imported - begin, loaded - imported, first - loaded, time.perf_counter() - first]))
"""
THEIRS = """
import json, sys, time
begin = time.perf_counter()
from benchmarks.torchvision_peer import import_torch, import_torchvision
torch, torchvision = import_torch(), import_torchvision()
import cv2
imported = time.perf_counter()
model = getattr(torchvision.models.detection, sys.argv[3])(weights=None, weights_backbone=None)
model.load_state_dict(torch.load(sys.argv[1]))
model.eval()
loaded = time.perf_counter()
def run():
    image = cv2.imread(sys.argv[2])[..., ::-1].copy()
    with torch.no_grad():
        model([torch.from_numpy(image).permute(2, 0, 1).float() / 255.0])
run()
first = time.perf_counter()
run()
print(json.dumps([imported - begin, loaded - imported, first - loaded, time.perf_counter() - first]))
"""
SAVE = """
import sys
from benchmarks.torchvision_peer import import_torch, import_torchvision
torch = import_torch()
torch.manual_seed(0)
detection = import_torchvision().models.detection
torch.save(getattr(detection, sys.argv[2])(weights=None, weights_backbone=None).state_dict(), sys.argv[1])
"""


def main() -> None:
    """Measures both and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="maskrcnn_resnet50_fpn_v2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        _run(SAVE, str(path), args.model)
        url, cached = _as_published(path, Path(folder))
        environment = {"RCNN_JAX_CACHE": folder, "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        rows = {
            "rcnn_jax, first process": _run(OURS, url, str(args.picture), **environment),
            "rcnn_jax, later": _run(OURS, url, str(args.picture), **environment),
            "torchvision": _run(THEIRS, str(cached), str(args.picture), args.model),
        }
    print("| seconds | import | load | first result | second result |\n|---|---:|---:|---:|---:|")
    for name, seconds in rows.items():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in seconds)} |")


def _as_published(path: Path, cache: Path) -> tuple[str, Path]:
    """Puts a file into the cache under an address whose name holds its digest."""
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    cached = cache / "weights" / "example.org" / f"model-{digest}.pth"
    cached.parent.mkdir(parents=True)
    path.replace(cached)
    return f"https://example.org/{cached.name}", cached


def _run(program: str, *words: str, **environment: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout or "[]")


if __name__ == "__main__":
    main()
