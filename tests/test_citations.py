"""Every source that is named can be opened: pages, headings, links. Nothing is imported.

code, docs ---> docs/PAGE.md, "Heading" and "Heading"     the page has these headings
docs, README -> [text](page.md#anchor)                    file and anchor are in the repository
code ---------> section 3                                 of a paper with its year, or a standard
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("rcnn_jax", "benchmarks", "tools", "experiments", "configs", "tests", "docs")
SUFFIXES = {".py", ".md", ".txt", ".ipynb"}

_CONTINUATION = re.compile(r"\n[ \t]*(?:#+[ \t]*)?")
_HEADING = r'"([^"]+)"'
_CITATION = re.compile(
    r"(?<![\w/.-])(docs/[\w/-]+\.md)`?"
    rf"((?:,\s+{_HEADING}(?:(?:,\s+|\s+and\s+|,\s+and\s+){_HEADING})*)?)"
)
_DANGLING = re.compile(
    r"(?:faster|mask)_rcnn_spec(?:\.md)?(?:,?\s+sections?|\))"  # names of pages that never were here
    r"|\b(?:export|performance)_findings\b"
    r"|\breference/(?:deployment|datasets|portable_graph)\b(?!\.md)"
    r"|\bfacts,?\s+sections?\b|\bfact\s+sheets?\b"
    r"|\breference\s+(?:of\s+)?\w+,?\s+sections?\b"
    r"|\bdesign,\s+section\b|\(design:|\bSEED-[FM]\b"
    r"|\bshared/(?:reference|design|glossary)\b"
)
_SECTION = re.compile(r"\bsections?\s+\d")
_PUBLISHED = re.compile(r"\b(?:19|20)\d\d\b|\bRFC \d+|\bITU\b|\bISO\b")
_REACH = 120
"""Characters before a section number in which its paper must be named."""
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|\b(?:src|href)=\"([^\"]+)\"")
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True)
class Citation:
    """A page of docs/, the headings that are quoted after it, and the line it stands on."""

    page: str
    headings: tuple[str, ...]
    line: int


def one_line(text: str) -> str:
    """Returns the text with line breaks, indentation and comment marks as blanks, as long as it was."""
    return _CONTINUATION.sub(lambda match: " " * len(match.group()), text)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def citations_of(text: str) -> Iterator[Citation]:
    for match in _CITATION.finditer(one_line(text)):
        quoted = (re.sub(r"\s+", " ", name) for name in re.findall(_HEADING, match[2]))
        yield Citation(match[1], tuple(quoted), line_of(text, match.start()))


def dangling_in(text: str, code: bool) -> Iterator[tuple[int, str]]:
    """Yields (line, words) of names of pages nobody has, and in code of sections of nothing."""
    flat = one_line(text)
    for match in _DANGLING.finditer(flat):
        yield line_of(text, match.start()), match.group()
    for match in _SECTION.finditer(flat) if code else ():
        before = flat[max(0, match.start() - _REACH) : match.start()]
        if not _PUBLISHED.search(before):
            yield line_of(text, match.start()), match.group()


def without_code(text: str) -> str:
    """Returns Markdown with code as blanks, as long as it was."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    return _CODE.sub(blank, _FENCE.sub(blank, text))


def headings_of(text: str) -> list[str]:
    """Returns the headings of a page as they read, without a number in front."""
    text = _FENCE.sub("", text)
    headings = re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", text, re.MULTILINE)
    return [re.sub(r"^\d+\.\s+", "", heading).replace("`", "") for heading in headings]


def anchors_of(text: str) -> set[str]:
    """Returns what a link to a heading may end in, as GitHub makes it, and explicit anchors."""
    anchors: set[str] = set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", _FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = sum(1 for other in anchors if re.fullmatch(re.escape(slug) + r"(-\d+)?", other))
        anchors.add(f"{slug}-{again}" if again else slug)
    return anchors


def files_of(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.md"))
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and path != Path(__file__):
                yield path


def citation_faults(root: Path) -> Iterator[str]:
    """Yields a sentence for every citation that leads nowhere."""
    for path in files_of(root):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
        for line, words in dangling_in(text, code=path.suffix != ".md"):
            yield f"{name}:{line}: '{words}' names nothing that a reader can open"
        for cited in citations_of(text):
            page = root / cited.page
            if not page.is_file():
                yield f"{name}:{cited.line}: {cited.page} does not exist"
                continue
            headings = headings_of(page.read_text(encoding="utf-8"))
            for heading in cited.headings:
                if heading not in headings:
                    near = difflib.get_close_matches(heading, headings, 1)
                    hint = f", it has '{near[0]}'" if near else ""
                    yield f"{name}:{cited.line}: {cited.page} has no heading '{heading}'{hint}"


def link_faults(root: Path) -> Iterator[str]:
    """Yields a sentence for every link in README and docs that leads nowhere."""
    for path in (*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()
        for match in _LINK.finditer(without_code(text)):
            target = match[1] or match[2]
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            where = f"{name}:{line_of(text, match.start())}"
            relative, _, anchor = target.partition("#")
            page = (path.parent / relative).resolve() if relative else path.resolve()
            if not page.is_relative_to(root.resolve()) or not page.exists():
                yield f"{where}: {target} is not in the repository"
            elif anchor and anchor not in anchors_of(page.read_text(encoding="utf-8")):
                yield f"{where}: {target}: the page has no such heading"


def test_every_source_that_is_cited_can_be_opened():
    faults = list(citation_faults(ROOT))
    assert not faults, "\n" + "\n".join(faults)


def test_every_link_of_the_documentation_leads_somewhere():
    faults = list(link_faults(ROOT))
    assert not faults, "\n" + "\n".join(faults)


def test_the_citations_are_found_at_all():
    package = [path for path in files_of(ROOT) if "rcnn_jax" in path.relative_to(ROOT).parts]
    citations = [one for path in package for one in citations_of(path.read_text(encoding="utf-8"))]
    assert len([one for one in citations if one.headings]) > 50


def test_every_page_of_reference_is_cited_and_in_its_index():
    pages = {path.name for path in (ROOT / "docs/reference").glob("*.md")} - {"README.md"}
    index = (ROOT / "docs/reference/README.md").read_text(encoding="utf-8")
    assert {page for page in pages if f"({page})" not in index} == set()
    code = [path for path in files_of(ROOT) if path.suffix == ".py"]
    cited = {one.page for path in code for one in citations_of(path.read_text(encoding="utf-8"))}
    assert {page for page in pages if f"docs/reference/{page}" not in cited} == set()


PAGE = """\
# Anchors and more

## 2. RPN targets

```
# no heading
```

## The `Q/DQ` pairs

Again [here](#rpn-targets), [there](page.md#2-rpn-targets) and `[not](a.link)`.

## The Q/DQ pairs
"""


@pytest.fixture
def house(tmp_path):
    """A repository with one page and a module that cites it well."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "rcnn_jax").mkdir()
    (tmp_path / "docs" / "page.md").write_text(PAGE.replace("(#rpn-targets)", "(#2-rpn-targets)"))
    (tmp_path / "rcnn_jax" / "good.py").write_text(
        '"""Source: Ren et al. 2015, section 3.1.2; docs/page.md, "RPN targets" and "The Q/DQ\n'
        'pairs"; another/docs/page_of_others.md.\n"""\n\n'
        '# As in docs/page.md,\n# "Anchors and\n# more".\n'
    )
    (tmp_path / "README.md").write_text(
        "[page](docs/page.md), [pair](docs/page.md#the-qdq-pairs-1), [out](https://x.org/none)\n"
    )
    return tmp_path


def test_good_citations_and_links_have_no_fault(house):
    assert list(citation_faults(house)) == []
    assert list(link_faults(house)) == []


def test_a_citation_that_is_broken_over_lines_is_read_as_one():
    first, second = citations_of(
        'x\n# See docs/a.md,\n# "B\n#   C", "D" and\n# "E". `docs/f.md`, "G"'
    )
    assert first == Citation("docs/a.md", ("B C", "D", "E"), 2)
    assert second == Citation("docs/f.md", ("G",), 5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# docs/none.md", "docs/none.md does not exist"),
        (
            '# docs/page.md, "RPN target"',
            "docs/page.md has no heading 'RPN target', it has 'RPN targets'",
        ),
        ('# docs/page.md, "RPN targets"\n# and "no heading"', "has no heading 'no heading'"),
        ("# Source: reference/faster_rcnn_spec section 3.2", "faster_rcnn_spec section"),
        ("# Source: reference of datasets, section\n# 2", "reference of datasets, section"),
        ("# Mask R-CNN facts, section 5.4", "facts, section"),
        ("# export_findings.md section 5", "export_findings"),
        ("# Source: deployment.md section 7.1", "section 7"),
        ("# Source: design, section 3", "design, section"),
        ("# See ../shared/reference/cli.md", "shared/reference"),
    ],
)
def test_a_citation_that_leads_nowhere_is_named(house, text, fault):
    (house / "rcnn_jax" / "bad.py").write_text(f"x = 1\n\n{text}\n")
    faults = list(citation_faults(house))
    assert faults and all(one.startswith("rcnn_jax/bad.py:3: ") for one in faults[:1])
    assert any(fault in one for one in faults)


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("[a](docs/none.md)", "README.md:2: docs/none.md is not in the repository"),
        ("[a](docs/page.md#none)", "README.md:2: docs/page.md#none: the page has no such heading"),
        ("![a](none.png)", "README.md:2: none.png is not in the repository"),
        ('<img src="none.png">', "README.md:2: none.png is not in the repository"),
        ("[a](../outside.md)", "README.md:2: ../outside.md is not in the repository"),
        ("[![a](none.svg)](https://x.org)", "README.md:2: none.svg is not in the repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(house, link, fault):
    (house.parent / "outside.md").write_text("# Outside\n")
    (house / "README.md").write_text(f"# Title\n{link}\n")
    assert list(link_faults(house)) == [fault]
