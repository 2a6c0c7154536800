"""Values that are no blocks: which words belong to one, and what is said when they are wrong."""

from typing import Any

from rcnn_jax.spec.schema import Field, FieldKind
from rcnn_jax.spec.text.cursor import OPENING, Cursor
from rcnn_jax.spec.text.tokens import Token, printable
from rcnn_jax.spec.text.values import (
    WrongValueError,
    bare,
    in_quotes,
    read_value,
    wanted,
    written,
)


class ScalarReader(Cursor):
    """Reads numbers, texts, names and literals."""

    def colon(self) -> bool:
        """Takes what stands between a name and its value; says whether anything does."""
        if not self.here.is_mark("="):
            found = self.skip(":")
            while found and self.skip(":"):
                self.complain(self.last, "this ':' is one too many")
            return found
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
        """Returns a value; None, with the reason said, if there is none.

        Args:
          token: the name of the entry.
          kind: type of the value.
          row: the field.
          path: what messages call the value.
          colon: whether a colon stands in front of it.
          listed: whether it is an item of a list in brackets.
        """
        first = self.here
        absent = first.kind == "end" or first.is_mark("}", ">", "]", ",", ";")
        if absent or (first.line > token.line and self.begins_entry()):
            self.complain(token, f"{path} has no value: it needs {wanted(kind, row)}")
            return None
        if not colon:
            self.complain(first, f"expected ':' behind {path}, found {self.found()}")
        if first.is_mark(*OPENING):
            self._bracket(kind, row, path)
            return None
        words = self._words(listed=listed)
        secret = row.secret or any(word.kind == "hidden" for word in words)
        try:
            return self._value([self.originals.get(w.start, w) for w in words], kind, row)
        except WrongValueError as error:
            if secret:
                what = str(error).partition(": write")[0].partition("; did")[0]
                self.complain(first, f"{path} {what}")
            elif colon:
                place = token if kind == "literal" and first.kind == "string" else first
                self.complain(place, f"{path} = {printable(written(words))} {error}")
        return None

    def found(self) -> str:
        """Returns the next word for a message, unless it may be a key."""
        return "a key" if self.here.kind == "hidden" else self.here.shown

    def _words(self, *, listed: bool) -> list[Token]:
        """Takes the words of one value: adjacent strings, or what somebody wrote for one value."""
        words = [self.take()]
        if words[0].kind == "hidden":  # All of a key was found before.
            while self.here.kind == "hidden":
                words.append(self.take())
        elif words[0].kind == "string":
            while self.here.kind == "string" and not self._names_an_entry():
                words.append(self.take())
            return words
        bracketed = words[0].text.startswith("(")
        while self._goes_on(words[-1], listed=listed, bracketed=bracketed):
            words.append(self.take())
        return words

    def _goes_on(self, before: Token, *, listed: bool, bracketed: bool) -> bool:
        """Says whether the next word is still of the value."""
        here = self.here
        if here.kind == "end" or here.line > before.line or here.is_mark("}", ">", "]"):
            return False
        if bracketed:
            return not before.text.endswith(")")
        adjacent = here.start == before.end
        if here.is_mark(",", ";"):  # 1,000 is meant as one number, unless it stands in a list.
            number = self.next.start == here.end and self.next.kind == "number"
            return here.text == "," and number and adjacent and not listed
        if here.kind == "mark":
            return adjacent
        return adjacent or not (listed or self.begins_entry())

    def _names_an_entry(self) -> bool:
        """Says whether the string here is the name of a field, as in JSON."""
        return self.next.is_mark(":", "{") and self.here.line > self.last.line

    def _value(self, words: list[Token], kind: FieldKind, row: Field) -> Any:
        first = words[0]
        if first.kind == "open":
            sentence = f"is not closed: a {first.text[0]} is missing in this line"
            if first.text[-1] in "“”„‟″’‘":
                sentence += f"; the typographic {first.text[-1]} closes nothing"
            raise WrongValueError(sentence)
        if first.kind == "curly" and kind in ("string", "literal"):
            raise WrongValueError(
                f"stands in typographic quotes: write {in_quotes(bare(written(words)))}"
            )
        if len(words) == 1 or all(word.kind == "string" for word in words):
            return read_value(words, kind, row)
        text = written(words)
        apart = any(b.start > a.end for a, b in zip(words, words[1:], strict=False))
        numbers = all(word.kind == "number" for word in words)
        if row.repeated and ((apart and numbers) or (text[0], text[-1]) == ("(", ")")):
            inside = ", ".join(text.strip("()").replace(",", " ").split())
            raise WrongValueError(f"is no list: write [{inside}]")
        if apart and kind not in ("string", "literal"):
            raise WrongValueError(f"is not {wanted(kind, row)}: it is more than one word")
        return read_value([Token("word", text, first.start, first.line, first.column)], kind, row)

    def _bracket(self, kind: FieldKind, row: Field, path: str) -> None:
        """Complains about a list or block where one value belongs, and skips it."""
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
