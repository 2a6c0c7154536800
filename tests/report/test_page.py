"""The page: whole in one file, escaped, readable as a tree of elements."""

from html.parser import HTMLParser

from rcnn_jax.report.page import Chart, Gallery, Picture, Section, Table, Text, html

HOSTILE = '<script>alert("x")</script>&\x1b[2J'
VOID = {"meta", "img", "path", "rect", "circle", "polyline"}


class Tree(HTMLParser):
    """Collects elements and text; fails where an element is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.attributes = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def sections(text="plain"):
    return [
        Section(text, [Table([text, "n"], [[text, "3"]], text, {0: "error"}), Text(text, "note")]),
        Section(text, [Gallery([Picture(b"\xff\xd8", text)]), Chart("<svg></svg>", text)], text),
        Section(text, [], folded=True),
    ]


def test_every_element_is_closed():
    tree = Tree(html("title", "subtitle", sections()))
    assert tree.tags.count("section") == 3
    assert "details" in tree.tags


def test_names_from_outside_are_text_and_never_elements():
    page = html(HOSTILE, HOSTILE, sections(HOSTILE))
    tree = Tree(page)
    assert "script" not in tree.tags
    assert "\x1b" not in page
    assert any("<script>" in words for words in tree.words)


def test_nothing_is_fetched_from_elsewhere():
    tree = Tree(html("title", "subtitle", sections()))
    links = [value for name, value in tree.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith(("#s", "data:image/jpeg;base64,")) for link in links)
    assert not {"link", "script", "iframe"} & set(tree.tags)


def test_every_section_is_in_the_list_of_contents():
    tree = Tree(html("title", "subtitle", sections()))
    ids = [value for name, value in tree.attributes if name == "id"]
    assert [f"#{value}" for value in ids] == [v for n, v in tree.attributes if n == "href"]


def test_columns_of_numbers_stand_to_the_right_and_others_do_not():
    table = Table(
        ["name", "n", "mixed"], [["a", "1,200", "1"], ["b", "97 %", "x"], ["c", "-", "2"]]
    )
    assert table.markdown().splitlines()[1] == "| --- | ---: | --- |"
    assert html("t", "s", [Section("s", [table])]).count("<td class=n>") == 3


def test_a_bar_in_a_cell_of_markdown_is_escaped():
    assert Table(["a"], [["x|y\n"]]).markdown().splitlines()[-1] == r"| x\|y\n |"
