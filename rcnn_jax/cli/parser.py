"""Argument parser of all commands: exact flags, forgiving spelling, messages that name the cause.

    --dataset-spec  dataset-convert     dashes and underscores are one
    -k ""                               a flag without a value is as good as absent
    faster_rcnn --gpus 2 train ...      flags may come before the task
    --modle_path                        "there is no flag --modle_path; did you mean --model_path?"

Abbreviations are not accepted, so a new flag never changes what an old command line means.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from rcnn_jax.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UsageErrors.

    Attributes:
      relatives: the parsers of the sibling commands by name; asked when a flag is unknown.
    """

    def __init__(
        self,
        *args: Any,
        fill: Callable[["Parser"], None] | None = None,
        **kwargs: Any,
    ):
        """Makes a parser.

        Args:
          *args: of ArgumentParser.
          fill: adds flags and commands when somebody asks for them, so that a command costs nothing
            where another one is run.
          **kwargs: of ArgumentParser.
        """
        # argparse would take any unambiguous beginning of a flag, and a flag that is added later
        # would make old command lines ambiguous.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.relatives: Mapping[str, Parser] = {}
        self._commands: Mapping[str, Parser] = {}
        self._fill = fill

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Returns the action that takes commands, whose parsers learn of each other."""
        action = super().add_subparsers(**kwargs)
        assert action.choices is not None
        self._commands = action.choices  # grows with every add_parser
        return action

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Returns the namespace and what is left; a parser without commands leaves nothing.

        Raises:
          UsageError: a flag or command is unknown, or a value does not fit.
        """
        # Sub-parsers are called through this method too, so one class serves every level.
        given = list(sys.argv[1:] if args is None else args)
        if self.filled()._commands:
            for command in self._commands.values():
                command.relatives = self._commands
            return super().parse_known_args(self._command_first(given), namespace)
        arguments = self._cleaned(given)
        unknown = self._unknown(arguments)
        if unknown:  # before a flag is missed whose mistyped spelling is there
            self._refuse(unknown)
        namespace, rest = super().parse_known_args(arguments, namespace)
        if rest:
            self._refuse(rest)
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        """Raises UsageError instead of leaving the process."""
        raise UsageError(f"{self.prog}: {message}\n{self.prog} --help shows what it accepts")

    def filled(self) -> "Parser":
        """Returns this parser, with its flags and commands."""
        # Taken out first: while flags are added, other parsers may ask this one.
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def takes(self, flag: str) -> argparse.Action | None:
        """Returns the action of a flag, however it is spelled, here or in a command below."""
        self.filled()
        option = self._option_string_actions.get(self._spelling(flag))
        if option is None and not flag.startswith("--"):  # -kKEY
            option = self._option_string_actions.get(flag[:2])
            option = None if option is None or option.nargs == 0 else option
        below = (command.takes(flag) for command in self._commands.values())
        return option or next((action for action in below if action), None)

    def _command_first(self, given: list[str]) -> list[str]:
        """Returns the arguments with the command in front of the flags that came before it."""
        index = 0
        # argparse gives a flag to the parser that meets it first, so one before the task would be
        # unknown there. The original's launcher accepted its own flags in front of the task.
        while index < len(given) and (given[index].startswith("-") or not given[index]):
            if given[index] in self._option_string_actions:  # --help, --version
                return given
            index += self._length(given, index)
        if index >= len(given):
            word = next(a.metavar for a in self._actions if a.nargs == argparse.PARSER)
            self.error(f"{word} is missing; there are {', '.join(self._commands)}")
        name = given[index]
        known = {_plain(command): command for command in self._commands}
        if _plain(name) not in known:
            self._refuse_command(name)
        return [known[_plain(name)], *given[:index], *given[index + 1 :]]

    def _length(self, given: list[str], index: int) -> int:
        """Returns how many arguments the flag at an index is, with its values."""
        if not given[index]:
            return 1
        flag, equals, _ = given[index].partition("=")
        action = self.takes(flag)
        if action is None:
            self._refuse([given[index]])
        if equals or action.nargs == 0 or self._spelling_of(action, flag) is None:
            return 1
        if action.nargs is None:
            return 2
        # A list of values (--gpu_index 0 1) ends at the next flag, and where the name of a task
        # begins.
        values = given[index + 1 :]
        ends = (i for i, v in enumerate(values) if v.startswith("-") or self._is_command(v))
        return 1 + next(ends, len(values))

    def _spelling_of(self, action: argparse.Action, flag: str) -> str | None:
        """Returns the spelling of the action that a flag is, None where a value hangs on it."""
        return next((o for o in action.option_strings if _plain(o) == _plain(flag)), None)

    def _is_command(self, word: str) -> bool:
        return _plain(word) in {_plain(command) for command in self._commands}

    def _cleaned(self, given: list[str]) -> list[str]:
        """Returns the arguments in our spelling, without flags whose value is empty.

        The original dropped them, and scripts rely on it: `-k "$KEY"` where KEY is not set.
        """
        cleaned: list[str] = []
        index = 0
        while index < len(given):
            flag, equals, value = given[index].partition("=")
            if flag.startswith("--"):
                flag = self._spelling(flag)
            action = self._option_string_actions.get(flag)
            # Switches take no value; an empty word behind one is dropped by itself.
            takes_one = action is not None and action.nargs in (None, "+")
            if takes_one and equals and not value:
                index += 1
            elif takes_one and not equals and given[index + 1 : index + 2] == [""]:
                index += 2
            else:
                cleaned += [f"{flag}{equals}{value}"] if given[index] else []
                index += 1
        return cleaned

    def _unknown(self, arguments: Sequence[str]) -> list[str]:
        """Returns the words that are flags to argparse, and none of this command.

        What follows a flag that takes a value is left to argparse: it may be a key, and no message
        shows one.
        """
        # The conditions below are argparse's own for what looks like a flag: no number, no blank,
        # no lone dash. Only what it would take for a flag can be missed as one.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        actions = [self._option_string_actions.get(word) for word in arguments[:end]]
        values = [False, *(action is not None and action.nargs is None for action in actions)]
        return [
            word
            for word, is_value in zip(arguments[:end], values, strict=False)
            if word.startswith("-")
            and not is_value
            and word != "-"
            and " " not in word
            and not _is_number(word)
            and self.takes(word.partition("=")[0]) is None
            and word[:2] not in self._option_string_actions  # -vs is -v -s
        ]

    def _spelling(self, flag: str) -> str:
        """Returns a long flag as it is declared: with dashes or underscores."""
        if flag in self._option_string_actions or not flag.startswith("--"):
            return flag
        same = (o for o in self._option_string_actions if _plain(o) == _plain(flag))
        return next(same, flag)

    def _refuse(self, rest: list[str]) -> NoReturn:
        """Raises the error of arguments that nothing takes."""
        flag = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
        if flag is None:
            self.error(
                f"'{rest[0]}' is one word too many; a pattern such as '*.png' needs quotes, and a "
                "path with blanks too"
            )
        owners = self._owners(flag)
        if owners:
            self.error(f"there is no flag {flag} here; it belongs to {', '.join(owners)}")
        near = self._nearest_flags(flag)
        self.error(f"there is no flag {flag}{_did_you_mean(near)}")

    def _owners(self, flag: str) -> list[str]:
        """Returns the sibling commands that have a flag; of two names of one command the first."""
        # By description: an alias has that of the command it stands for, and is named once.
        owners = {
            other.description: name
            for name, other in reversed(list(self.relatives.items()))
            if other.filled()._spelling(flag) in other._option_string_actions
        }
        return list(owners.values())[::-1]

    def _nearest_flags(self, flag: str) -> list[str]:
        """Returns the long flags that a mistyped or shortened one may stand for, nearest first."""
        known = {
            option.lstrip("-"): option
            for parser in (self, *self._commands.values())
            for option, action in parser.filled()._option_string_actions.items()
            if option.startswith("--") and action.help is not argparse.SUPPRESS
        }
        word = flag.lstrip("-").replace("-", "_")
        # Beginnings before resemblance: the original's argparse took abbreviations, so they stand
        # in scripts.
        begun = [name for name in known if len(word) > 2 and name.startswith(word)]
        near = begun or difflib.get_close_matches(word, known, 2, 0.6)
        return [known[name] for name in near[:3]]

    def _refuse_command(self, name: str) -> NoReturn:
        """Raises the error of a command that does not exist, with the nearest that does."""
        plain = _plain(name)
        owners = [
            f"{self.prog} {command} {plain}"
            for command, parser in self._commands.items()
            if parser.filled()._is_command(name)
        ]
        if owners:
            self.error(f"'{name}' is a task of a network: {' or '.join(owners)}")
        near = difflib.get_close_matches(plain, [*self._commands], 1, 0.6)
        hint = _did_you_mean(near)
        self.error(f"unknown command '{name}'{hint}; there are {', '.join(self._commands)}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _plain(word: str) -> str:
    """Returns a flag or command without the difference of dashes and underscores."""
    return word.replace("-", "_")


def _did_you_mean(near: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""
