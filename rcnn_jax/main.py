"""Runs a config file: the command line for people who write configs in Python.

    python -m rcnn_jax.main --config=configs/quickstart.py --workdir=out
    python -m rcnn_jax.main --config=configs/spec.py:my_spec.txt --workdir=out --mode=evaluate
    ... --config.training_config.num_epochs=3        changes one field; the whole is checked again
    ... --gpus 4 --use_amp -k KEY                    every flag of the task
    ... --mode=export --data_type=int8 --help        what the flags of a task mean

--config takes the place of the spec file and --workdir that of every folder that is not named; all else
is as on the command line: the same flags, functions, messages and exit codes.
"""

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from rcnn_jax.cli.flags import existing_file
from rcnn_jax.cli.huge_pages import take_huge_pages
from rcnn_jax.cli.main import TASK_ALIASES, TASKS, detector_parser, guarded, run_config
from rcnn_jax.errors import RcnnError, UsageError
from rcnn_jax.interrupt import run_program
from rcnn_jax.kinds import Kind
from rcnn_jax.spec.kinds import kind_of
from rcnn_jax.tasks.families import FAMILIES, FASTER_RCNN, family

MODES = (*TASKS, *TASK_ALIASES)
OWN = ("config", "workdir", "mode", "model", "images")
BEST_MODEL_MODES = ("evaluate", "inference", "inference_trt", "prune", "export")
"""Modes that take the best model of the workdir where none is named."""
PLACEHOLDER = "(the config)"

_CONFIG = config_flags.DEFINE_config_file("config", None, "File with get_config().")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that is written.")
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
_MODEL = flags.DEFINE_string("model", None, "Model file; best.tlt of the workdir by default.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of images, where the config names none.")


def parse(argv: Sequence[str]) -> list[str]:
    """Gives absl its flags and returns the others, behind the program's name.

    Args:
      argv: the program's name and its arguments. Overrides (`--config.a.b=3`) are read from sys.argv:
        so ml_collections wants it.

    Raises:
      UsageError: a flag of absl, an override or the config file is at fault.
    """
    ours, others = split(argv[1:])
    # Before absl, whose own help knows nothing of the flags of a task.
    if {"-h", "--help"} & set(others):
        _help(ours)
    for word in ours:
        name, _, value = word.partition("=")
        if name.lstrip("-") == "config":
            # A mistyped path is reported as one, and not as an import that failed.
            existing_file(Path(value.partition(":")[0]), "--config")
    try:
        flags.FLAGS([argv[0], *ours])
        config = _CONFIG.value  # a file that cannot be loaded is told here
    except RcnnError:
        raise
    except Exception as error:
        raise UsageError(_reason(error)) from error
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.WARNING)  # absl raises it to what JAX tells its developers
    if config is not None and not isinstance(config, ConfigDict):
        raise UsageError(f"--config: get_config() returned {config!r}, expected a ConfigDict")
    return [argv[0], *others]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments for absl, as `--flag=value`, and those for the parser of the task.

    Where both know a flag (absl has `-v` and `--log_dir` of its own), it is the task's. A task that
    stands in front, as on the command line, is the mode.
    """
    ours: list[str] = []
    others: list[str] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        flag, equals, _ = word.partition("=")
        following = arguments[position + 1 : position + 2]
        position += 1
        if position == 1 and word.replace("-", "_") in MODES:
            ours.append(f"--mode={word.replace('-', '_')}")
        elif not _is_own(flag):
            others.append(word)
        elif not equals and following and _is_value(following[0]):
            ours.append(f"{flag}={following[0]}")
            position += 1
        else:
            ours.append(word)
    return ours, others


def run(others: Sequence[str] = ()) -> int:
    """Runs the mode that the flags ask for; returns the exit code.

    Args:
      others: flags of the task.

    Raises:
      RcnnError: the flags, the config, the data or the run are at fault.
    """
    mode = _MODE.value
    if _CONFIG.value is None:
        raise UsageError("--config=FILE is needed: a Python file with get_config()")
    kind = _kind(mode, kind_of(set(_CONFIG.value)))
    parser = detector_parser(kind)

    # Words, parsed by the task's own parser: defaults, types and messages are those of the command
    # line.
    flags_: list[str] = []
    workdir = Path(_WORKDIR.value) if _WORKDIR.value else None
    if mode != "dataset_convert":
        flags_ += ["-e", PLACEHOLDER]
    elif family(kind).records_from == "spec":
        flags_ += ["-d", PLACEHOLDER]
    if workdir is not None and mode == "dataset_convert":
        flags_ += ["-o", str(workdir / "data")]
    elif workdir is not None:
        flags_ += ["-r", str(workdir)]
    best = workdir / "best.tlt" if workdir is not None else None
    if _MODEL.value:
        flags_ += ["-m", _MODEL.value]
    elif best is not None and mode in BEST_MODEL_MODES and best.exists():
        flags_ += ["-m", str(best)]
    if _IMAGES.value:
        flags_ += ["-i", _IMAGES.value]
    args = parser.parse_args([mode, *flags_, *others])  # a flag of the user comes last, and wins
    if getattr(args, "spec", None) not in (None, Path(PLACEHOLDER)):
        raise UsageError(
            f"{args.spec}: --config takes the place of the spec file; give one of them"
        )
    return run_config(args, _CONFIG.value)


def main() -> None:
    """Parses the flags with absl and leaves with the exit code of the run."""
    run_program(lambda: guarded(_run_by_absl))


def _run_by_absl() -> int:
    """Returns the exit code, which absl hands on as a SystemExit: `run_program` ends the process."""
    try:
        app.run(lambda argv: run(argv[1:]), flags_parser=parse)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        raise  # a text, which Python prints
    return 0


def _kind(mode: str, kind: str | None) -> Kind:
    """Returns the detector of a mode and a config.

    Raises:
      UsageError: the config is not one for this mode.
    """
    if mode != "dataset_convert":
        owners: dict[str, Kind] = {name: name for name in FAMILIES}
    else:  # a dataset spec is a kind of its own
        owners = {
            "dataset_convert" if row.records_from == "spec" else row.kind: row.kind
            for row in FAMILIES.values()
        }
    if kind not in owners:
        raise UsageError(
            f"--config describes {kind or 'nothing known'}, {mode} needs {' or '.join(owners)}"
        )
    return owners[kind]


def _is_own(flag: str) -> bool:
    """Returns whether a word is a flag of this program or of absl, and of no task."""
    name = flag.lstrip("-")
    if not flag.startswith("-") or not name:
        return False
    if name in OWN or name.startswith(("config.", "noconfig.")):
        return True
    taken = any(detector_parser(kind).takes(flag) for kind in FAMILIES)
    return flag.startswith("--") and name.removeprefix("no") in flags.FLAGS and not taken


def _is_value(word: str) -> bool:
    return not word.startswith("-") or re.fullmatch(r"-[\d.]+(e[-+]?\d+)?", word) is not None


def _reason(error: Exception) -> str:
    """Returns the reason of an error of flags or of the config file, with its line."""
    text = str(error)
    if isinstance(error, SyntaxError) and Path(error.filename or ".py").suffix != ".py":
        return (
            f"--config {error.filename}: is no Python; a spec file is run by "
            f"--config=configs/spec.py:{error.filename}"
        )
    if isinstance(error, flags.Error):
        return text
    if "no attribute 'get_config'" in text:
        return "--config: the file has no function get_config()"
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).suffix == ".py" and "site-packages" not in frame.filename
    ]
    name = re.search(r"'(\w+)\\*'", text)  # quoted once or twice
    if isinstance(error, AttributeError | KeyError) and len(lines) == 1 and name:  # an override
        near = re.search(r'Did you mean "(.*)" instead', text)
        hint = f"; did you mean {near[1]}?" if near else ""
        return f"--config: there is no field {name[1]}{hint}"
    where = f"{lines[-1]}: " if len(lines) > 1 else ""
    return f"--config: {where}{type(error).__name__}: {text}"


def _help(ours: Sequence[str]) -> None:
    """Prints the flags of this program and of the task, and leaves."""
    modes = [word.partition("=")[2] for word in ours if word.startswith("--mode=")]
    mode = modes[-1] if modes and modes[-1] in MODES else "train"
    sys.stdout.write(f"{__doc__}\nFlags of this program:\n{flags.FLAGS.main_module_help()}\n\n")
    sys.stdout.write("Flags of the task, for a config of Faster R-CNN (-e is not given here):\n\n")
    detector_parser(FASTER_RCNN.kind).parse_args([mode, "--help"])


if __name__ == "__main__":
    take_huge_pages()
    main()
