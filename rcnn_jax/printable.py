"""Text of others on a terminal: control characters are shown instead of obeyed.

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

_LONGEST = 300
"""Characters of a foreign message."""
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 60


def printable(text: str) -> str:
    """Returns a text whose control characters are shown as codes; tabs and newlines stay."""
    return _UNSAFE.sub(_escape, text)


def shown(name: object) -> str:
    """Returns a name, such as a path, in one line: `printable`, with tabs and newlines shown too."""
    return printable(str(name)).replace("\n", "\\n").replace("\t", "\\t")


def shown_value(value: object) -> str:
    """Returns any value of a file as one short line, however long or deeply nested it is."""
    return shown(_BRIEF.repr(value))


def reason(error: BaseException) -> str:
    """Returns what another library says of a file, in one line of bounded length.

    Some repeat the content: a made-up file would fill the screen.
    """
    words = shown(" ".join(str(error).split()))
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # one byte of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
