"""Check of the paths of a command: output can be written, and replaces no input.

Every command declares what it reads and writes (`paths` in its file); `check` compares them before
any work begins. What a spec names counts as much as what a flag names: a label dump onto the ground
truth is as bad as pictures onto the pictures.
"""

import glob
import os
import stat
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rcnn_jax.cli.flags import existing_file, what_lies
from rcnn_jax.errors import RcnnError, SpecError, UsageError

if TYPE_CHECKING:
    from rcnn_jax.kinds import SpecKind, TaskName
    from rcnn_jax.spec.inputs import Input

# NAME_MAX of Linux file systems, in bytes and not in letters.
LONGEST_NAME = 255
TEMPORARY = 24
"""Length that the temporary name of a file adds to its own, in bytes."""

PathKind = Literal["file", "folder", "workdir", "log"]


@dataclass(frozen=True)
class CommandPath:
    """A path that a command reads or writes.

    Attributes:
      name: the flag or field that names it.
      path: the path. What is read may be a pattern.
      kind: `folder` is filled with files named after others, so it must be no folder of input;
        a `workdir` gets files of names of its own; a `log` may be a device too.
    """

    name: str
    path: Path
    kind: PathKind = "file"

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


@dataclass
class CommandPaths:
    """Input and output of a command.

    Attributes:
      reads: its input.
      writes: its output.
    """

    reads: list[CommandPath] = field(default_factory=list)
    writes: list[CommandPath] = field(default_factory=list)

    def read(self, name: str, path: Path | str | None, kind: PathKind = "file") -> None:
        """Adds an input, where there is one."""
        if path:
            self.reads.append(CommandPath(name, Path(path), kind))

    def write(self, name: str, path: Path | str | None, kind: PathKind = "file") -> None:
        """Adds an output, where there is one."""
        if path:
            self.writes.append(CommandPath(name, Path(path), kind))


def common(
    args: Namespace, kind: "SpecKind", task: "TaskName | None", *, workdir_flag: str = "-r"
) -> tuple[CommandPaths, Any]:
    """Lists the paths that every task has, and reads its config.

    Args:
      args: flags: log_file, workdir, and the spec or config.
      kind: of the spec.
      task: what the spec is read for, as of `read_spec`: one without a schedule has inputs too.
      workdir_flag: what the flag of the folder is called.

    Returns:
      The paths, and the config; None where the spec cannot be read: `read_spec` will say why.

    Raises:
      UsageError: there is no such spec file.
    """
    paths = CommandPaths()
    paths.write("--log_file", args.log_file, "log")
    paths.write(workdir_flag, args.workdir, "workdir")
    paths.write("the status file", args.workdir and args.workdir / "status.json", "log")
    config = args.config
    if config is None and args.spec is not None:
        paths.read("-e" if kind != "dataset_convert" else "-d", args.spec)
        existing_file(args.spec, paths.reads[0].name)
        # Parsed once more for this, which takes 5 ms: what a spec names is at risk as much as what
        # flags name.
        config = _quiet_config(args.spec, kind, task)
    if config is not None:
        paths.reads += spec_inputs(config, kind)
    return paths, config


def spec_inputs(config: Any, kind: "SpecKind") -> list[CommandPath]:
    """Returns the data and weights that a spec names, other than the model of a command."""
    from rcnn_jax.spec.inputs import data_path, named_inputs

    named = []
    for entry in named_inputs(config, kind):
        path = data_path(entry.value)
        if entry.parts is None:
            named.append(_input(entry, path))
        else:
            named += [_input(part, path / part.value) for part in entry.parts]
    return named


def inputs_of_spec(path: Path, task: "TaskName") -> list[CommandPath]:
    """Returns the data and weights that a spec file names; none where it has errors, which `run` reports.

    Raises:
      UsageError: there is no such file.
    """
    from rcnn_jax.spec.load import load_spec

    existing_file(path, "-e")
    try:
        loaded = load_spec(path, None, task)
    except SpecError:
        return []
    return spec_inputs(loaded.config, loaded.kind)


def _input(entry: "Input", path: Path) -> CommandPath:
    return CommandPath(entry.field, path, "folder" if entry.reads == "folder" else "file")


def check(paths: CommandPaths) -> None:
    """Stops a command whose output cannot be written, or would destroy what it reads.

    Raises:
      UsageError: a path is of the wrong kind or cannot be written; an output is an input, or two
        outputs are one file.
    """
    for out in paths.writes:
        obstacle = _obstacle(out)
        if obstacle:
            raise UsageError(f"{out}: {obstacle}")
    # A flag and a field may name the same file: the message names what the user typed.
    flags_first = sorted(paths.reads, key=lambda source: not source.name.startswith("-"))
    for out in paths.writes:
        for source in flags_first:
            if _destroys(out, source):
                raise UsageError(
                    f"{out}: is what {source} reads, and no command writes over its input: "
                    "name another file or folder"
                )
    # Two outputs may share a folder, but never a file, and a file cannot be the folder of another.
    for number, out in enumerate(paths.writes):
        for other in paths.writes[:number]:
            if "folder" not in _noun(out) + _noun(other) and same(out.path, other.path):
                raise UsageError(f"{other} and {out} are one file: give two names")
            for upper, lower in ((out, other), (other, out)):
                if _noun(upper) == "file" and _holds(upper.path, lower.path, _noun(lower)):
                    raise UsageError(f"{upper}: cannot be a file, {lower} needs a folder there")


def same(one: Path, other: Path) -> bool:
    """Returns whether two paths are one file or folder: by links, relative spelling and case."""
    try:
        # By device and inode, which also covers hard links and file systems that ignore case; the
        # spelling of the path decides only where nothing lies yet.
        return one.samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def beside(path: Path, ending: str) -> Path:
    """Returns the file next to a path whose name is longer by an ending; `.` is a path too."""
    return path.parent / f"{path.name}{ending}"


def matching(pattern: Path) -> Iterator[Path]:
    """Yields the matches of a pattern; nothing for a path that is none."""
    text = str(pattern)
    if glob.has_magic(text) and what_lies(pattern) == "nothing":
        yield from map(Path, glob.iglob(text))  # noqa: PTH207 Path.glob takes no absolute pattern


def _obstacle(output: CommandPath) -> str | None:
    """Returns why a path cannot be written, None where it can."""
    path, wanted = output.path, _noun(output)
    longest = LONGEST_NAME - (TEMPORARY if output.kind == "file" else 0)
    try:
        if len(os.fsencode(path.name)) > longest:
            return f"the name is longer than {longest} bytes"
        mode = path.stat().st_mode
    except FileNotFoundError:
        # A file behind such a link would replace the link, a folder cannot be made.
        if path.is_symlink() and wanted == "folder":
            return f"is a link to {path.readlink()}, which does not exist"
        return _obstacle_above(path if wanted == "folder" else path.parent)
    except NotADirectoryError:
        return _obstacle_above(path if wanted == "folder" else path.parent)
    except (OSError, ValueError) as error:
        return f"cannot be written: {getattr(error, 'strerror', None) or error}"
    if wanted == "folder" and not stat.S_ISDIR(mode):
        return "expected a folder, found a file there"
    if wanted == "file" and stat.S_ISDIR(mode):
        return "expected a file, found a folder there"
    if output.kind == "file" and not stat.S_ISREG(mode):
        return "expected a file, found a device or pipe there"
    # Files are replaced by renaming, which needs the folder; a log is appended to.
    return _unwritable(path.parent if output.kind == "file" else path)


def _obstacle_above(folder: Path) -> str | None:
    """Returns why a folder cannot be made, None where it can.

    It is tried: permissions do not tell of file systems that nothing can be made in.
    """
    missing = folder
    while not os.path.lexists(folder) and folder != folder.parent:
        missing, folder = folder, folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if missing != folder:
        # Under a name of its own: several of one job try at the same time, and what one of
        # them makes and removes would look to another like a folder that is none.
        try:
            Path(tempfile.mkdtemp(prefix=".trial-", dir=missing.parent)).rmdir()
        except OSError as error:
            return f"{missing} cannot be made: {error.strerror}"
    return _unwritable(folder)


def _unwritable(path: Path) -> str | None:
    mode = os.W_OK | (os.X_OK if path.is_dir() else 0)
    return None if os.access(path, mode) else f"{path} is not writable"


def _destroys(out: CommandPath, source: CommandPath) -> bool:
    """Returns whether writing an output can change an input."""
    # Its files have names of their own, and those that may exist as input are declared one by one.
    if out.kind == "workdir":
        return False
    if out.kind == "folder":
        return source.kind == "folder" and same(out.path, source.path)
    if source.kind == "folder":  # a file of this name is one of those that are read
        return os.path.lexists(out.path) and same(out.path.parent, source.path)
    if same(out.path, source.path):
        return True
    # A pattern (records-*) reads whatever it matches by the time of reading.
    return what_lies(out.path) == "file" and any(same(out.path, p) for p in matching(source.path))


def _holds(upper: Path, lower: Path, noun: str) -> bool:
    """Returns whether a file at the upper path would take the name of a folder of the lower one."""
    above, below = Path(os.path.realpath(upper)), Path(os.path.realpath(lower))
    return above in below.parents or (noun == "folder" and above == below)


def _noun(path: CommandPath) -> str:
    return "folder" if path.kind in ("folder", "workdir") else "file"


def _quiet_config(spec: Path, kind: "SpecKind", task: "TaskName | None") -> Any:
    from rcnn_jax.spec.load import load_spec

    try:
        return load_spec(spec, kind, task).config
    # The command reads the spec again inside its session, where the error also reaches the log and
    # status.json.
    except RcnnError:
        return None
