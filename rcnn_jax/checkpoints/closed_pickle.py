"""Pickles, read without running them: containers, numbers, texts and arrays, nothing else.

A pickle is a program; unpickling would run it. Here a small interpreter follows the opcodes that build
containers and numbers. Names in the file are never imported; what is made of the few that describe
arrays is the business of the caller (`Rebuild`).

    program --run(rebuild)--> dicts, lists, numbers, what `rebuild` makes

A bound on opcodes and copied items keeps a forged program from running for hours.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from rcnn_jax.errors import CheckpointError

MOST_WORK = 1_000_000
"""Opcodes and copied items of one program; a model of a thousand tensors needs 60,000."""

# An object of its own, which no opcode can push as a value.
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
# No opcodes of protocol 0: their text would have to be parsed, and torch.save and detectron2 write
# protocol 2 and later.
_VALUES = (*_INTEGERS, *_TEXTS, *_BYTES, "BINFLOAT")
_OLD_TEXTS = ("BINSTRING", "SHORT_BINSTRING")
"""Strings of Python 2, whose bytes pickletools gives as Latin-1."""
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

_RUNNING = frozenset(
    # processes and files
    ("os", "posix", "posixpath", "nt", "subprocess", "_posixsubprocess", "pty", "shutil", "signal")
    # code by text or name
    + ("sys", "code", "codeop", "importlib", "imp", "runpy", "pkgutil", "pydoc", "pip", "ctypes")
    + ("bdb", "pdb", "trace", "timeit", "site", "venv", "ensurepip", "distutils", "platform")
    # pickles in pickles
    + ("pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "multiprocessing")
    # the network
    + (
        "socket",
        "ssl",
        "http",
        "urllib",
        "requests",
        "ftplib",
        "smtplib",
        "telnetlib",
        "webbrowser",
    )
    + ("socketserver", "xmlrpc", "asyncio")
)
"""Modules that run programs, reach files or the network, or get at functions that do."""
_ANYWHERE = frozenset(
    ("os", "posix", "subprocess", "sys", "importlib", "builtins", "__builtins__", "__import__")
    + ("open", "system", "popen", "eval", "exec", "execfile", "__globals__", "__subclasses__")
)
"""The same, wherever they stand in a dotted name."""
_HARMLESS = frozenset(
    ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list")
    # Without `type`: calls of it make classes, and no array needs one.
    + ("object", "range", "set", "slice", "str", "tuple")
)
"""Builtins that make values; all others, `eval` and `getattr` among them, are refused."""


@dataclass(frozen=True)
class Global:
    """A global name in the file; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Placeholder:
    """An object that is neither a container, a number nor what the caller rebuilds."""


class Array:
    """An object rebuilt from a call and filled from the state that follows (BUILD)."""

    def set_state(self, state: Any) -> None:
        """Takes the state of the object; nothing by default."""


Rebuild = Callable[[Global, tuple[Any, ...]], Any]
"""Name and arguments of a call in the file -> a value made by the caller, or a Placeholder."""


def is_hostile(named: Global) -> bool:
    """Says whether a name gives away a program that wants to run something.

    Unknown classes of libraries are left alone: checkpoints hold optimizers and configs of all kinds,
    and nothing of them is imported or called here.
    """
    module, name = named.module.split("."), named.name.split(".")
    if module[0] in ("builtins", "__builtin__"):
        return named.name not in _HARMLESS
    # The first part alone decides for _RUNNING: `torch.signal` or `scipy.signal` are no signals of
    # processes.
    # Modules hold others as attributes: numpy.f2py.os is os.
    return module[0] in _RUNNING or bool(_ANYWHERE & {*module, *name})


Program = bytes | BinaryIO
"""A pickle: its bytes, or a stream that stands at its beginning and is left behind its end."""


def run(
    program: Program,
    rebuild: Rebuild,
    *,
    storage: Callable[[Any], Any] | None = None,
    writer: str = "torch.save",
) -> Any:
    """Interprets a pickle.

    Args:
      program: opcodes; a stream is left behind the last one.
      rebuild: makes values of calls.
      storage: makes values of persistent ids; None where the file has none.
      writer: who writes such files, for messages.

    Raises:
      CheckpointError: an opcode that the writer does not write, a name that no weights need, or too
        many steps.
      ValueError, IndexError, TypeError: the program is malformed.
    """
    machine = _Machine(rebuild, storage, writer)
    # genops only splits bytes; unlike pickle.load it looks nothing up and builds nothing.
    for opcode, argument, _ in pickletools.genops(program):
        machine.spend(1)
        # What follows in the stream is never looked at, as unpickling would not.
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise ValueError("the program does not end")


class _Machine:
    """Stack machine of the opcodes that build data."""

    def __init__(self, rebuild: Rebuild, storage: Callable[[Any], Any] | None, writer: str) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._work = MOST_WORK
        self._make = rebuild
        self._storage = storage
        self._writer = writer

    def spend(self, work: int) -> None:
        """Counts work.

        Raises:
          CheckpointError: the program has done more than any model needs.
        """
        self._work -= work
        if self._work < 0:
            raise CheckpointError(f"its pickle needs over {MOST_WORK:,} steps, as no model does")

    def pop(self) -> Any:
        """Pops the top of the stack."""
        return self._stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """Applies one opcode."""
        stack = self._stack
        # Hints for readers of streams; the bytes are in memory already.
        if name in ("PROTO", "FRAME"):
            return
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError("the program remembers what it never stored")
            stack.append(self._memo[argument])
        elif name in _VALUES or name in _OLD_TEXTS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        # Sets are read past, not made: no weights are in one, and hashing forged items costs time.
        elif name == "EMPTY_SET":
            stack.append(Placeholder())
        elif name == "ADDITEMS":
            self._pop_to_mark()
        elif name == "FROZENSET":
            self._pop_to_mark()
            stack.append(Placeholder())
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in _SMALL_TUPLES:
            items = [stack.pop() for _ in range(_SMALL_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "APPEND":
            item = stack.pop()
            _extend(stack[-1], [item])
        elif name == "APPENDS":
            items = self._pop_to_mark()
            _extend(stack[-1], items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            set_items(stack[-1], [key, value])
        elif name == "SETITEMS":
            items = self._pop_to_mark()
            set_items(stack[-1], items)
        elif name == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            stack.append(_named(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not (isinstance(module, str) and isinstance(attribute, str)):
                raise ValueError("a name in the program is no text")
            stack.append(_named(module, attribute))
        elif name == "BINPERSID" and self._storage is not None:
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._rebuild(function, arguments))
        elif name == "BUILD":
            # Attributes of other objects, such as the _metadata of a state dict, are not needed.
            state = stack.pop()
            if isinstance(stack[-1], Array):
                stack[-1].set_state(state)
        else:
            raise CheckpointError(
                f"holds the pickle opcode {name}, which {self._writer} does not write"
            )

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        return items

    def _rebuild(self, function: Any, arguments: Any) -> Any:
        # The result of a call that is called again: nothing that describes an array does so.
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return Placeholder()
        if function == Global("collections", "OrderedDict"):
            pairs = arguments[0] if arguments else []
            if isinstance(pairs, dict):
                pairs = list(pairs.items())
            if not isinstance(pairs, list) or any(len(p) != 2 for p in map(_sequence, pairs)):
                raise ValueError("an ordered dictionary is not made of pairs")
            # One opcode can copy a list that was remembered; without this a short program copies
            # for ever.
            self.spend(len(pairs))
            entries: dict[str, Any] = {}
            set_items(entries, [item for pair in pairs for item in pair])
            return entries
        return self._make(function, arguments)


def _named(module: str, attribute: str) -> Global:
    named = Global(module, attribute)
    # Here, where the name appears, not where it is called: a file that names it has no honest
    # reader.
    if is_hostile(named):
        raise CheckpointError(
            f"names {str(named)[:80]!r}, which weights never need and a program that wants to do "
            "something would; it is not read. Nothing of it was run. Get the file from its publisher"
        )
    return named


def _sequence(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else ()


def _extend(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise ValueError("something is appended to what is no list")
    target.extend(items)


def set_items(target: Any, items: list[Any]) -> None:
    """Sets pairs of a dictionary; keys that are not text name no tensor and are left out."""
    if len(items) % 2:
        raise ValueError("a dictionary has a key without a value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                target[key] = value
