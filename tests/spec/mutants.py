"""Specs with mistakes made by chance: what a reader must survive, and answer at once."""

import functools
import random
import re
import string
from pathlib import Path

from rcnn_jax.errors import RcnnError, SpecError
from rcnn_jax.spec import parse_spec, redact, render
from rcnn_jax.spec.render import redact_text
from rcnn_jax.text_file import decode
from tests.fuzz.case import Case, Target, sound_cases
from tests.spec.samples import SAMPLES

CONFIGS = Path(__file__).parents[2] / "configs"
SECRET = "Zq7SECRETq9Z"
_GIVEN_AS_KEY = re.compile(rf"\benc_key\b[\s:='\"“]*{SECRET}")

PIECES = (
    *(
        "{",
        "}",
        "<",
        ">",
        "[",
        "]",
        ":",
        ",",
        ";",
        "=",
        '"',
        "'",
        "#",
        "//",
        "/*",
        "\\",
        "\n",
        "\t",
    ),
    *(
        "“",
        "’",
        "–",
        "\u00a0",
        "\u200b",
        "\ufeff",
        "\x00",
        "\x1b[31m",
        "\r",
        "\u2028",
        "é",
        "\U0001f600",
    ),
    *("-0x10", "inff", "nan", "-inf", "1e999", "0x" + "f" * 300, "1" * 1600 + "x", "9" * 5000),
    *("12_000", "1,000", "1e–4", "-", "- 5", "+3", "07", ".", "5.", "true", "TRUE", "None", "null"),
    *(
        "[0, 1,]",
        '"[0,1]"',
        '"((((((((((((((((((((((1,"',
        '"[1e400]"',
        "(1, 2)",
        '"\\777"',
        '"\\ud800"',
    ),
    *(
        '"(-832, 1344)"',
        '"' + "/x" * 3000 + '"',
        '"/"',
        '"/**/*"',
        '"C:\\new"',
        '"\\0"',
        '"a\\x00b"',
    ),
    *("{" * 400, "}" * 400, "[" * 400, '"' + "(" * 900 + '"', "sgd { } adam { }", "model_config {"),
    *(
        "enc_key",
        "enc_kye:",
        "wandb_config { key:",
        "---",
        "- a",
        "network_config {",
        "<<<<<<< HEAD",
    ),
)
"""What is put in: marks, numbers and texts that readers stumble over."""


def mutant(rng: random.Random) -> Case:
    """Returns a text that is nearly a spec, with a key in it."""
    texts = _sound_texts()
    text = rng.choice(texts)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        text = _mutated(text, texts, rng)
    return Case(".txt", text.encode("utf-8", "surrogatepass"))


@functools.cache
def _sound_texts() -> tuple[str, ...]:
    stored = [case.data.decode() for case in sound_cases("specs", ".txt")]
    shipped = [path.read_text() for path in sorted(CONFIGS.rglob("*.txt"))]
    return tuple(f'{text}\nenc_key: "{SECRET}"\n' for text in (*stored, *shipped))


def _mutated(text: str, texts: tuple[str, ...], chance: random.Random) -> str:
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.choice((0, 1, 1, 2, 8, 40)))
    kind = chance.randrange(8)
    if kind == 0:
        return text[:start] + text[end:]
    if kind == 1:
        return text[:start] + chance.choice(PIECES) + text[start:]
    if kind == 2:
        return text[:start] + chance.choice(PIECES) + text[end:]
    if kind == 3:
        other = chance.choice(texts)
        begin = chance.randrange(len(other))
        return text[:start] + other[begin : begin + chance.choice((5, 50, 500))] + text[start:]
    if kind == 4:
        return text[:start] + chance.choice(string.printable) + text[end:]
    words = text.split(" ")
    first, second = chance.randrange(len(words)), chance.randrange(len(words))
    if kind == 5:
        words[first], words[second] = words[second], words[first]
    elif kind == 6:
        words[first] = chance.choice(PIECES)
    else:
        words.insert(second, words[first])
    return " ".join(words)


def check(case: Case, folder: Path) -> None:
    """Reads a spec; what is said about it holds no key and nothing that a terminal obeys.

    Raises:
      SpecError: it is refused.
      AssertionError: a message is unfit, or a config does not survive being written and read again.
    """
    text = decode(case.data, "mutant.txt", "spec file", SpecError)
    secret = text.count(SECRET) == len(_GIVEN_AS_KEY.findall(text))
    try:
        assert not (secret and SECRET in redact_text(text)), "the key is in the redacted text"
        spec = parse_spec(text, "mutant.txt", upgrades=True)
    except RcnnError as error:
        _check_words(str(error), secret)
        raise
    _check_words("\n".join([*spec.notes, *spec.warnings, *spec.dropped]), secret)
    written = render(redact(spec.config), spec.kind)
    try:
        parse_spec(written, "written.txt", spec.kind)
    except SpecError as error:
        raise AssertionError(f"a config is refused when it is written out: {error}") from error


def _check_words(message: str, secret: bool) -> None:
    assert not (secret and SECRET in message), "the key is in a message"
    assert all(each.isprintable() or each == "\n" for each in message), (
        f"control characters: {message!r}"
    )


def _seeds() -> dict[str, Case]:
    return {name: Case(".txt", text.encode()) for name, text in SAMPLES.items()}


SPECS = Target("specs", (".txt",), _seeds, mutant, check, quick=2000)
