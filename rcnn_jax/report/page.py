"""One self-contained HTML page from sections of tables, charts and pictures.

    Section("Classes", [Table(...), Chart(svg), Gallery([...])]) -> html([...]) -> text of one file

The page needs nothing else: no script, no font, no other host. It is readable at a width of a phone, in
light and dark, on paper, and as text where a mail program shows no styles. All text is escaped here:
names of files and classes come from whoever made the data.
"""

import base64
import html as markup
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rcnn_jax.printable import shown

Tone = Literal["good", "note", "warning", "error"]


@dataclass(frozen=True)
class Table:
    """A table of text; columns whose cells are all numbers stand to the right.

    Attributes:
      headings: of the columns.
      rows: cells as text, one per heading.
      caption: a sentence above it.
      tones: row index -> how serious the row is.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    tones: Mapping[int, Tone] = field(default_factory=dict)

    def markdown(self) -> str:
        """Returns the table as Markdown; a bar in a cell is escaped."""
        right = _numeric(self.rows, len(self.headings))
        rule = ["---:" if numeric else "---" for numeric in right]
        lines = [self.headings, rule, *self.rows]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


@dataclass(frozen=True)
class Chart:
    """A drawing of `report.charts`.

    Attributes:
      svg: the element, made of trusted numbers and escaped text.
      caption: what it shows and how to read it.
    """

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with a caption.

    Attributes:
      jpeg: the file, encoded; every byte is a third larger in the page.
      caption: one line.
    """

    jpeg: bytes
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures beside each other, as many as the width holds."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Beside:
    """Parts beside each other where the width holds them, below each other on a phone."""

    parts: Sequence["Table | Chart"]


@dataclass(frozen=True)
class Text:
    """A paragraph, or one line of advice with its tone."""

    text: str
    tone: Tone | None = None


Part = Table | Chart | Beside | Gallery | Text


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    Attributes:
      title: also the entry in the list of contents.
      parts: from top to bottom.
      intro: one sentence below the heading.
      folded: shown closed at first; opened by a click, without a script.
    """

    title: str
    parts: Sequence[Part]
    intro: str = ""
    folded: bool = False


def html(
    title: str, subtitle: str, sections: Sequence[Section], *, refresh: int | None = None
) -> str:
    """Returns the page.

    Args:
      title: of the page and the window.
      subtitle: what was looked at, when, with what.
      sections: at least one.
      refresh: seconds after which a browser loads the page again, for one that is written anew
        meanwhile; None for never.
    """
    # Anchors by number: titles are text of the data, and unfit for the address of a section.
    links = "".join(
        f'<a href="#s{number}">{_text(section.title)}</a>'
        for number, section in enumerate(sections)
    )
    body = "".join(_section(number, section) for number, section in enumerate(sections))
    again = "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh:d}">'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{again}'
        f"<title>{_text(title)}</title>"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style>'
        f"</head><body><header><h1>{_text(title)}</h1><p>{_text(subtitle)}</p><nav>{links}</nav>"
        f"</header><main>{body}</main></body></html>\n"
    )


def _section(number: int, section: Section) -> str:
    intro = f"<p>{_text(section.intro)}</p>" if section.intro else ""
    parts = intro + "".join(map(_part, section.parts))
    if section.folded:
        return (
            f'<section id="s{number}"><details><summary><h2>{_text(section.title)}</h2></summary>'
            f"{parts}</details></section>"
        )
    return f'<section id="s{number}"><h2>{_text(section.title)}</h2>{parts}</section>'


def _part(part: Part) -> str:
    match part:
        case Table():
            return _table(part)
        case Chart():
            caption = f"<figcaption>{_text(part.caption)}</figcaption>" if part.caption else ""
            return f"<figure>{part.svg}{caption}</figure>"
        case Beside():
            return f'<div class="beside">{"".join(map(_part, part.parts))}</div>'
        case Gallery():
            return f'<div class="gallery">{"".join(map(_picture, part.pictures))}</div>'
        case Text():
            tone = f' class="{part.tone}"' if part.tone else ""
            return f"<p{tone}>{_text(part.text)}</p>"


def _table(table: Table) -> str:
    right = _numeric(table.rows, len(table.headings))

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if numeric else ''}>{_text(cell)}</{tag}>"
            for cell, numeric in zip(cells, right, strict=True)
        )

    rows = "".join(
        f"<tr{f' class={table.tones[number]}' if number in table.tones else ''}>"
        f"{line('td', row)}</tr>"
        for number, row in enumerate(table.rows)
    )
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    # The frame scrolls, not the page: a confusion matrix is wider than a phone.
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{line("th", table.headings)}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _picture(picture: Picture) -> str:
    # Inside the page: a report is mailed and moved, and files beside it would stay behind.
    data = base64.b64encode(picture.jpeg).decode("ascii")
    caption = _text(picture.caption)
    return (
        f'<figure><img loading="lazy" alt="{caption}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _numeric(rows: Sequence[Sequence[str]], columns: int) -> list[bool]:
    """Returns for every column whether all its cells are numbers, or empty."""
    return [
        bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(columns)
    ]


def _is_number(cell: str) -> bool:
    if cell.strip() in ("", "-"):
        return True
    try:
        float(cell.rstrip(" %x").replace(",", ""))
    except ValueError:
        return False
    return True


def _text(text: str) -> str:
    # `shown` first: control characters that escape nothing in HTML would still garble the text.
    return markup.escape(shown(text), quote=True)


def _cell(text: str) -> str:
    return shown(text).replace("|", "\\|")


# Colours are variables, so that charts follow the scheme of the reader too.
_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2430;--dim:#5b6675;--line:#d9dee5;--soft:#f4f6f9;
--good:#1a7f4b;--warning:#9a6200;--error:#b3261e;--note:#2457a6;
--c0:#2457a6;--c1:#c2410c;--c2:#1a7f4b;--c3:#7c3aed;--c4:#b3261e;--c5:#0e7490;--c6:#8a6d00;--c7:#be185d}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--fg:#e4e9f0;--dim:#9aa7b6;--line:#2c3540;
--soft:#1a2028;--good:#5fd39b;--warning:#f0b456;--error:#ff8a80;--note:#8fb7ff;
--c0:#8fb7ff;--c1:#ffa26b;--c2:#5fd39b;--c3:#c4a5ff;--c4:#ff8a80;--c5:#67d5e8;--c6:#e6cf5c;--c7:#ff8fc0}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
header,main{max-width:1100px;margin:0 auto;padding:16px}
h1{margin:.2em 0;font-size:1.6rem}h2{margin:0 0 .4em;font-size:1.15rem}
header p{color:var(--dim);margin:.2em 0 .8em}
nav{display:flex;flex-wrap:wrap;gap:4px 14px}a{color:var(--note)}
section{border-top:1px solid var(--line);padding:18px 0}
summary{cursor:pointer}summary h2{display:inline}
.wide{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--dim);padding-bottom:.3em}
th,td{padding:4px 12px 4px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600;white-space:nowrap}.n{text-align:right;white-space:nowrap}
td:not(.n){min-width:7.5em}
tr.error td:first-child,p.error{color:var(--error)}
tr.warning td:first-child,p.warning{color:var(--warning)}
tr.good td:first-child,p.good{color:var(--good)}tr.note td:first-child,p.note{color:var(--note)}
figure{margin:.6em 0;overflow-x:auto}figcaption{color:var(--dim);font-size:.87rem}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--fg);font:12px system-ui,sans-serif}
svg .dim{fill:var(--dim)}svg .axis{stroke:var(--line)}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:0 32px}
.beside>*{min-width:0}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:12px}
.gallery figure{margin:0}img{width:100%;height:auto;border-radius:4px;background:var(--soft)}
@media print{nav{display:none}section{break-inside:avoid}}
""".strip()
