"""Escaping of foreign text for a terminal: control characters are shown instead of obeyed.

Names of files and classes come from whoever made the data. A control character in one of them could
move the cursor, or change what stands above it.
"""

import re
import reprlib

# Control characters but tab and newline; marks that reverse the direction of text; line separators;
# and bytes of file names that are no UTF-8, which Python keeps as lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

SHOWN = 60
"""Characters of a value that a message repeats."""

_LONGEST = 300
"""Characters of a foreign message."""
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
# Bounded while it is made: `repr` of a value that is nested a thousand deep is a RecursionError.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60


def printable(text: str) -> str:
    """Returns a text with control characters as codes; tabs and newlines stay."""
    return _UNSAFE.sub(lambda match: _escape(match.group()), text)


def shown(name: object) -> str:
    """Returns a name, such as a path, in one line: `printable`, with tabs and newlines shown too."""
    return "".join(_escape(each) if each in "\n\t" else each for each in printable(str(name)))


def visible(text: str) -> str:
    """Returns a text in one line with a code for every character that is not plainly seen.

    Stricter than `shown`: in a spec, a blank of no width is what is wrong, so it must be seen. A file
    name may hold one rightly, inside an emoji or a word of a script that joins its letters.
    """
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def excerpt(text: str, limit: int = SHOWN) -> str:
    """Returns the beginning of a text of a spec, `visible`, with its length where it was cut."""
    if len(text) > limit:
        return f"{visible(text[: limit - 20])}... ({len(text)} characters)"
    return visible(text)


def shown_value(value: object) -> str:
    """Returns any value of a file as one short line, however long or deeply nested it is."""
    return shown(_BRIEF.repr(value))


def reason(error: BaseException) -> str:
    """Returns the message of another library's error, in one line of bounded length.

    Some repeat the content: a made-up file would fill the screen.
    """
    text = shown(" ".join(str(error).split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # one byte of a name that is no UTF-8
        code -= 0xDC00
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
