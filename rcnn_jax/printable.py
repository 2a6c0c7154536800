"""Text of others on a terminal: control characters are shown instead of obeyed.

Names of files and classes come from whoever made the data. A control character in one of them could
move the cursor, or change what stands above it.
"""

import re

# Control characters but tab and newline; marks that reverse the direction of text; line separators;
# and bytes of file names that are no UTF-8, which Python keeps as lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Returns a text whose control characters are shown as codes; tabs and newlines stay."""
    return _UNSAFE.sub(_escape, text)


def printable_name(name: str) -> str:
    """Returns a name in one line: `printable`, with tabs and newlines shown too."""
    return printable(name).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # one byte of a name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
