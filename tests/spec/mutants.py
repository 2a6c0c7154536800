"""Specs with mistakes made by chance: what a reader must survive, and answer at once.

    python -m tests.spec.mutants --count 20000 --seed 1

Every mutant is read, and checked if it is sound. Anything but a `SpecError` is a fault, and so is a
second of thinking.
"""

import argparse
import random
import re
import string
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from rcnn_jax.errors import SpecError
from rcnn_jax.spec import parse_spec, redact, render
from rcnn_jax.spec.render import redact_text
from tests.spec.samples import SAMPLES

CONFIGS = Path(__file__).parents[2] / "configs"
SECRET = "Zq7SECRETq9Z"
PATIENCE = 1.0
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


def mutants(seed: int, count: int) -> Iterator[str]:
    """Yields texts that are nearly specs; the same ones for the same seed."""
    chance = random.Random(seed)
    texts = [*SAMPLES.values(), *(path.read_text() for path in sorted(CONFIGS.rglob("*.txt")))]
    texts = [f'{text}\nenc_key: "{SECRET}"\n' for text in texts]
    for _ in range(count):
        text = chance.choice(texts)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            text = _mutated(text, texts, chance)
        yield text


def _mutated(text: str, texts: list[str], chance: random.Random) -> str:
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


def fault(text: str, *, patient: bool = False) -> str:
    """Says how reading the text failed; nothing if it was read or refused as it should be.

    Args:
      text: the mutant.
      patient: whether it may take any time.
    """
    began = time.process_time()
    secret = text.count(SECRET) == len(_GIVEN_AS_KEY.findall(text))
    try:
        if secret and SECRET in redact_text(text):
            return "the key is in the redacted text"
        spec = parse_spec(text, "mutant.txt", upgrades=True)
        messages = "\n".join([*spec.notes, *spec.warnings, *spec.dropped])
        parse_spec(render(redact(spec.config), spec.kind))
    except SpecError as error:
        messages = str(error)
    except Exception:
        return traceback.format_exc()
    if secret and SECRET in messages:
        return f"the key is in a message: {messages}"
    if not all(each.isprintable() or each == "\n" for each in messages):
        return f"raw control characters in a message: {messages!r}"
    spent = time.process_time() - began
    return f"{spent:.1f} seconds" if spent > PATIENCE and not patient else ""


def main() -> int:
    """Reads many mutants and prints those that fail; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = 0
    for number, text in enumerate(mutants(args.seed, args.count)):
        what = fault(text)
        if what:
            found += 1
            sys.stdout.write(f"mutant {number}: {what}\n{text[:2000]!r}\n\n")
    sys.stdout.write(f"{args.count} mutants, {found} faults\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
