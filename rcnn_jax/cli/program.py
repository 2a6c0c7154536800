"""Console scripts: the programs that a shell starts, called by nothing else."""

import sys
from pathlib import Path

from rcnn_jax.cli import main
from rcnn_jax.cli.huge_pages import take_huge_pages
from rcnn_jax.interrupt import run_program


def rcnn_jax() -> None:
    """`rcnn-jax`."""
    take_huge_pages()
    run_program(main.main)


def tao() -> None:
    """`tao` and `tlt`, the original's launchers."""
    take_huge_pages()
    run_program(lambda: main.main(program=Path(sys.argv[0]).name))


def faster_rcnn() -> None:
    """`faster_rcnn`, the original's name."""
    take_huge_pages()
    run_program(main.faster_rcnn)


def mask_rcnn() -> None:
    """`mask_rcnn`, the original's name."""
    take_huge_pages()
    run_program(main.mask_rcnn)


def converter() -> None:
    """`tao-converter` and `tlt-converter`, the original's names."""
    # No huge pages: TensorRT computes on the GPU.
    run_program(main.converter)
