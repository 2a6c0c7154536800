"""Parser of scalar values: the tokens of one value, and the errors about them."""

from typing import Any

from rcnn_jax.printable import excerpt
from rcnn_jax.spec.schema import Field, FieldKind
from rcnn_jax.spec.text.cursor import OPENING, Cursor
from rcnn_jax.spec.text.tokens import Token
from rcnn_jax.spec.text.values import (
    WrongValueError,
    bare,
    in_quotes,
    read_value,
    wanted,
    written,
)


class ScalarReader(Cursor):
    """Parses numbers, texts, names and literals."""

    def colon(self) -> bool:
        """Consumes the colon between a name and its value; returns whether there is one."""
        if not self.here.is_mark("="):
            colon = self.skip(":")
            # Reported and skipped, so that the value behind it is still checked.
            while colon and self.skip(":"):
                self.complain(self.last, "this ':' is one too many")
            return colon
        self.complain(self.here, f"expected ':' behind {self.last.shown}, found '='")
        while self.skip("=", ">", ":"):
            pass
        return True

    def scalar(
        self,
        token: Token,
        kind: FieldKind,
        row: Field,
        path: str,
        *,
        colon: bool,
        listed: bool = False,
    ) -> Any:
        """Parses a value; returns None after an error, which has been added.

        Args:
          token: the name of the entry.
          kind: type of the value.
          row: the field.
          path: of the value, for messages.
          colon: whether a colon precedes it.
          listed: whether it is an item of a list in brackets.
        """
        first = self.here
        absent = first.kind == "end" or first.is_mark("}", ">", "]", ",", ";")
        if absent or (first.line > token.line and self.begins_entry()):
            self.complain(token, f"{path} has no value: it needs {wanted(kind, row)}")
            return None
        if not colon:
            self.complain(first, f"expected ':' behind {path}, found {self.shown_here()}")
        # Skipped as a whole: what is inside belongs to no field, and would be reported token by
        # token.
        if first.is_mark(*OPENING):
            self._bracket(kind, row, path)
            return None
        value_tokens = self._value_tokens(listed=listed)
        # Decided before the value is read: errors of conversion quote the value.
        secret = row.secret or any(word.kind == "hidden" for word in value_tokens)
        try:
            return self._value([self.originals.get(w.start, w) for w in value_tokens], kind, row)
        except WrongValueError as error:
            if secret:  # the rest of such sentences repeats the value
                what = str(error).partition(": write")[0].partition("; did")[0]
                self.complain(first, f"{path} {what}")
            elif colon:
                at = token if kind == "literal" and first.kind == "string" else first
                self.complain(at, f"{path} = {excerpt(written(value_tokens))} {error}")
        return None

    def shown_here(self) -> str:
        """Returns the next token for a message, unless it may be a key."""
        return "a key" if self.here.kind == "hidden" else self.here.shown

    def _value_tokens(self, *, listed: bool) -> list[Token]:
        """Consumes the tokens of one value: adjacent strings, or tokens meant as one value."""
        value_tokens = [self.take()]
        if value_tokens[0].kind == "hidden":  # `secrets.hide` has found its end
            while self.here.kind == "hidden":
                value_tokens.append(self.take())
        elif value_tokens[0].kind == "string":
            while self.here.kind == "string" and not self._names_an_entry():
                value_tokens.append(self.take())
            return value_tokens
        # `(832, 1344)` without quotes is one value to the user, and five tokens here.
        bracketed = value_tokens[0].text.startswith("(")
        while self._goes_on(value_tokens[-1], listed=listed, bracketed=bracketed):
            value_tokens.append(self.take())
        return value_tokens

    def _goes_on(self, before: Token, *, listed: bool, bracketed: bool) -> bool:
        """Returns whether the next token is still part of the value."""
        here = self.here
        if here.kind == "end" or here.line > before.line or here.is_mark("}", ">", "]"):
            return False
        if bracketed:
            return not before.text.endswith(")")
        adjacent = here.start == before.end
        if here.is_mark(",", ";"):  # 1,000 is one number, unless it is in a list
            number = self.next.start == here.end and self.next.kind == "number"
            return here.text == "," and number and adjacent and not listed
        if here.kind == "mark":
            return adjacent
        return adjacent or not (listed or self.begins_entry())

    def _names_an_entry(self) -> bool:
        """Returns whether the next string is the name of a field, as in JSON."""
        # A new line: adjacent strings may go on over several lines, but not with a colon behind
        # them.
        return self.next.is_mark(":", "{") and self.here.line > self.last.line

    def _value(self, value_tokens: list[Token], kind: FieldKind, row: Field) -> Any:
        first = value_tokens[0]
        if first.kind == "open":
            sentence = f"is not closed: a {first.text[0]} is missing in this line"
            if first.text[-1] in "“”„‟″’‘":
                sentence += f"; the typographic {first.text[-1]} closes nothing"
            raise WrongValueError(sentence)
        if first.kind == "curly" and kind in ("string", "literal"):
            raise WrongValueError(
                f"has typographic quotes: write {in_quotes(bare(written(value_tokens)))}"
            )
        if len(value_tokens) == 1 or all(word.kind == "string" for word in value_tokens):
            return read_value(value_tokens, kind, row)
        text = written(value_tokens)
        separate = any(
            b.start > a.end for a, b in zip(value_tokens, value_tokens[1:], strict=False)
        )
        numbers = all(word.kind == "number" for word in value_tokens)
        if row.repeated and ((separate and numbers) or (text[0], text[-1]) == ("(", ")")):
            inside = ", ".join(text.strip("()").replace(",", " ").split())
            raise WrongValueError(f"is no list: write [{inside}]")
        if separate and kind not in ("string", "literal"):
            raise WrongValueError(f"is not {wanted(kind, row)}: it is more than one word")
        return read_value([Token("word", text, first.start, first.line, first.column)], kind, row)

    def _bracket(self, kind: FieldKind, row: Field, path: str) -> None:
        """Reports a list or block in place of a scalar, and skips it."""
        opening, start = self.here, self.index
        self.skip_brackets()
        if opening.text != "[":
            self.complain(opening, f"{path} needs {wanted(kind, row)}, found a block")
            return
        sentence = f"{path} needs {wanted(kind, row)}, found a list"
        if kind == "literal":
            inside = written(self.tokens[start : self.index])
            sentence += f": write {in_quotes(inside)}"
        self.complain(opening, sentence)
