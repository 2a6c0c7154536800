"""Made-up files meet the readers; the long runs are `python -m tests.checkpoints.test_mutants N`."""

import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

from rcnn_jax.checkpoints.bundle import read_bundle, read_header
from rcnn_jax.checkpoints.pretrained import apply_weights, load_weights
from rcnn_jax.errors import CheckpointError
from tests.checkpoints.mutants import FAMILIES, KEY, write_mutant

SEEDS = 25
LAYER = {"conv1": {"kernel": np.zeros((1, 1, 3, 2), np.float32)}}


def read(path: Path) -> bool:
    """Reads a file every way there is; says whether it was accepted.

    Raises:
      Exception: anything but a CheckpointError is a fault of ours.
    """
    readers = [load_weights]
    if path.suffix == ".tlt":
        readers += [read_bundle, read_header]
    accepted = 0
    for reader in readers:
        try:
            result = reader(path, KEY)
            if reader is load_weights:
                apply_weights(LAYER, {}, result)
            accepted += 1
        except CheckpointError as error:
            assert str(error).startswith(str(path)), error
    return accepted == len(readers)


@pytest.mark.parametrize("suffix", FAMILIES)
def test_made_up_files_are_refused_or_read(suffix, tmp_path):
    if suffix in (".h5", ".keras"):
        pytest.importorskip("h5py", reason="the extra keras-weights is not installed")
    accepted = 0
    for seed in range(SEEDS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            accepted += read(write_mutant(suffix, seed, tmp_path))
    assert accepted < SEEDS


def main(counts: list[str]) -> None:
    """Reads many files of each family; prints every fault with its seed, and what reading cost."""
    warnings.simplefilter("ignore")
    for suffix, count in zip(FAMILIES, counts, strict=False):
        faults = accepted = which = 0
        slowest = 0.0
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(int(count)):
                path = write_mutant(suffix, seed, Path(folder))
                start = time.perf_counter()
                try:
                    accepted += read(path)
                except Exception:
                    faults += 1
                    print(f"--- {suffix} seed {seed}", traceback.format_exc()[-900:], flush=True)
                took = time.perf_counter() - start
                if took > slowest:
                    slowest, which = took, seed
                path.unlink()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{suffix}: {count} files, {accepted} accepted, {faults} faults, slowest {slowest:.2f} s "
            f"(seed {which}), peak memory of the process {memory} MB",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
