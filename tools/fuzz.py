"""Fuzzes the readers with thousands of mutants and reports the inputs on which one fails.

    python -m tools.fuzz specs --count 20000 --seed 1 --keep out/fuzz      mutants 0 to 19999 of the seed
    python -m tools.fuzz images --seconds 600 --seed 2                     as many as come in ten minutes
    python -m tools.fuzz specs out/fuzz/specs-1-17-hang.txt                one file again
    python -m tools.fuzz all                                               what `make fuzz` runs
    python -m tools.fuzz specs --seeds                                     writes tests/corpus/specs/sound

Targets: specs, records, coco, images, bundles, weights, headers, pickles, configs. A mutant is a function
of target, seed and number. Every input is read, or refused in one clear message
(`tests/fuzz/outcome.py`), within 5 seconds of processor time and 1 GB of memory. Exit code 1 when one is
not.
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz.case import CORPUS, write_case
from tests.fuzz.targets import NAMES, find
from tests.fuzz.watch import Run


def write_seeds(name: str) -> None:
    """Writes the sound inputs of a target into the corpus."""
    folder = CORPUS / name / "sound"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, case in find(name).seeds().items():
        write_case(case, folder, seed)


def main() -> int:
    """Runs what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Fuzzes the readers of files.",
        epilog=f"targets: {', '.join(NAMES)}",
    )
    parser.add_argument("target", choices=(*NAMES, "faulty", "all"), metavar="TARGET")
    parser.add_argument("file", type=Path, nargs="?", help="one input, read again")
    parser.add_argument("--seconds", type=float, help="ends after so many, whatever was tried")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="mutants; else those of `make fuzz`, or no end")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="writes the inputs that fail there"
    )
    parser.add_argument(
        "--seeds", action="store_true", help="writes the sound inputs of the corpus"
    )
    args = parser.parse_args()
    names = NAMES if args.target == "all" else (args.target,)
    failed = 0
    for name in names:
        if args.seeds:
            write_seeds(name)
            continue
        if args.file:
            run = Run(name).file(args.file)
        else:
            # With a time limit the number is open: mutants are numbered, so any of them can be made
            # again.
            count = args.count or (sys.maxsize if args.seconds else find(name).quick)
            run = Run(name, args.keep).mutants(
                args.seed, count, first=args.first, seconds=args.seconds
            )
        for report in run.failures:
            print(f"{report}\n")
        print(run, flush=True)
        failed += len(run.failures)
    # Never the number of failures: 256 of them would be exit code 0.
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
