"""Presentations, tables and code."""

import io
import sys
import time
import zipfile
from pathlib import Path

import pptx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Cm

from serve_app.documents import csv as tables
from serve_app.documents import office
from serve_app.documents.chunk import excerpts
from serve_app.documents.document import Block, Document, Refusal
from serve_app.documents.language import language_of
from serve_app.documents.parse import parse
from serve_app.documents.stamps import stamped
from tests.unit.documents import presentation, word_count


def read(name: str, content: str | bytes) -> Document:
    reading = parse(name, content.encode() if isinstance(content, str) else content)
    assert len(reading.documents) == 1
    return reading.documents[0]


def places(name: str, content: str) -> list[tuple[str, str]]:
    """(names below the file's, first line) of each block."""
    return [(" > ".join(block.heading[1:]), block.text.split("\n")[1]) for block in read(name, content).blocks]


def refusal(name: str, content: bytes) -> Refusal:
    with pytest.raises(Refusal) as refused:
        parse(name, content)
    assert "\n" not in str(refused.value)
    return refused.value


def saved(made: "pptx.presentation.Presentation") -> bytes:
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def test_a_slide_is_a_page_under_its_title_with_its_table_and_its_notes() -> None:
    document = read("talk.pptx", presentation())
    assert document.title == "Rollback"
    assert document.blocks == (
        Block(text="Stop traffic\n- Tell the users", heading=("Rollback",), page=1),
        Block(text="| step | who |\n| stop | ops |", kind="table", heading=("Rollback",), page=1),
        Block(text="Notes: Say it slowly.", heading=("Rollback",), page=1),
        Block(text="Questions", heading=("Questions",), page=2),
    )


def test_grouped_shapes_are_read_from_the_top_and_from_the_left() -> None:
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[6])
    slide.shapes.add_textbox(0, Cm(9), Cm(2), Cm(1)).text_frame.text = "last"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Cm(5), Cm(1), Cm(2), Cm(1)).text_frame.text = "right"
    group.shapes.add_textbox(Cm(0), Cm(1), Cm(2), Cm(1)).text_frame.text = "left"
    assert [block.text for block in read("a.pptx", saved(made)).blocks] == ["left", "right", "last"]


def test_a_chart_is_the_table_of_its_numbers() -> None:
    made = pptx.Presentation()
    numbers = CategoryChartData()
    numbers.categories = ["spring", "autumn"]
    numbers.add_series("cost", (1.5, None))
    slide = made.slides.add_slide(made.slide_layouts[6])
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, Cm(9), Cm(9), numbers)
    [block] = read("a.pptx", saved(made)).blocks
    assert (block.kind, block.text) == ("table", "|  | cost |\n| spring | 1.5 |\n| autumn |  |")


def test_a_presentation_that_cannot_be_read_says_why() -> None:
    whole = presentation()
    assert "protected by a password, or is an old .ppt" not in str(refusal("a.pptx", b"PK\x03\x04 broken"))
    assert "presentation is damaged" in str(refusal("a.pptx", b"PK\x03\x04 broken"))
    assert "presentation is damaged" in str(refusal("a.pptx", whole[: len(whole) // 2]))
    assert "protected by a password" in str(refusal("a.pptx", b"\xd0\xcf\x11\xe0" + bytes(600)))
    assert refusal("a.pptx", b"hello").code == "unsupported_file"
    assert refusal("a.docx", whole).code == "unsupported_file"
    assert "no text" in str(refusal("a.pptx", saved(pptx.Presentation())))


def test_a_presentation_with_a_broken_slide_is_refused() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(presentation())) as whole, zipfile.ZipFile(written, "w") as broken:
        for name in whole.namelist():
            broken.writestr(name, b"<broken" if name == "ppt/slides/slide1.xml" else whole.read(name))
    assert "presentation is damaged" in str(refusal("a.pptx", written.getvalue()))


def test_a_presentation_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office, "MOST_UNPACKED_BYTES", 2 * 2**20)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("ppt/presentation.xml", bytes(office.MOST_UNPACKED_BYTES + 1))
    assert "the presentation unpacks to 2 MiB" in str(refusal("a.pptx", written.getvalue()))


def test_a_table_has_its_header_above_and_its_rows_in_the_heading() -> None:
    rows = "".join(f"{number},{'x' * 90}\n" for number in range(10))
    blocks = read("prices.csv", f"id,what\n{rows}").blocks
    assert [block.heading for block in blocks] == [("rows 2 to 7",), ("rows 8 to 11",)]
    assert {block.text.split("\n")[0] for block in blocks} == {"| id | what |"}
    assert [line.split(" |")[0] for block in blocks for line in block.text.split("\n")[1:]] == [
        f"| {number}" for number in range(10)
    ]


def test_a_row_larger_than_an_excerpt_is_cut_under_its_header() -> None:
    document = read("faq.csv", f"question,answer\nWhy?,{'because it is so ' * 40}\n")
    cut = list(excerpts(document, count=word_count, most_tokens=40))
    assert len(cut) > 3
    assert all(one.text.startswith("| question | answer |\n") and one.heading == "row 2" for one in cut)
    assert sum(one.text.count("because") for one in cut) == 40


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    table = f'name{delimiter}text\na{delimiter}"one, two; three"\nb{delimiter}"four | five"\n'
    assert read("a.csv", table).blocks[0].text.split("\n")[1] == "| a | one, two; three |"


def test_a_table_without_a_header_gets_numbered_columns() -> None:
    [block] = read("a.csv", "1,2\n3,4\n").blocks
    assert (block.heading, block.text) == (("rows 1 to 2",), "| column 1 | column 2 |\n| 1 | 2 |\n| 3 | 4 |")


def test_a_header_alone_a_single_column_and_tabs_are_tables() -> None:
    assert read("a.csv", "name,age\n").blocks[0].text == "| name | age |"
    assert read("a.csv", "name\nann\nbob\n").blocks[0].text == "| name |\n| ann |\n| bob |"
    assert read("a.tsv", "name\tage\nann\t3\n").blocks[0].text == "| name | age |\n| ann | 3 |"


def test_quoted_lines_and_quotes_stay_in_their_cell() -> None:
    assert read("a.csv", 'a,b\n"two\nlines","say ""hi"""\n').blocks[0].text == '| a | b |\n| two lines | say "hi" |'


def test_a_table_that_cannot_be_read_names_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "row 3 cannot be read" in str(refusal("a.csv", b"a,b\n1,2\n3," + b"x" * 10 * 2**20))
    assert "quotes must be closed" in str(refusal("a.csv", b'a,b\n1,"' + b"x,y\n" * 50_000))
    assert "row 1 has 20001 columns" in str(refusal("a.csv", b"a," * 20_000))
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    assert "more than 3 rows; split it" in str(refusal("a.csv", b"a,b\n1,2\n3,4\n5,6\n7,8\n"))


def test_a_table_of_quotes_alone_is_soon_done() -> None:
    begun = time.process_time()
    assert parse("a.csv", b"a,b\n" + (b"'\",' " * 100 + b"\n") * 200)
    # `csv.Sniffer` alone takes seconds
    assert time.process_time() - begun < 1


def test_what_is_no_text_in_a_table_is_dropped() -> None:
    late = b"a,b\n" + b"x,y\n" * 2_000 + b"z\x00z,w\n"
    assert "| zz | w |" in read("a.csv", late).blocks[-1].text
    assert "content is binary" in str(refusal("a.csv", b"a,b\n\x00\x00"))
    assert "content is a ZIP archive" in str(refusal("a.csv", b"PK\x03\x04..."))


PYTHON = '''"""Module."""
import os

LIMIT = 3


# Sends it.
@retry
class Sender(Base):
    """A sender."""

    timeout = 1

    @property
    def name(self) -> str:
        return "x"

    async def send(self) -> None:
        def inner():
            pass

        inner()

    after = 2


def main():
    pass


main()
'''


def test_python_is_cut_at_classes_functions_and_methods() -> None:
    assert places("app/mail.py", PYTHON) == [
        ("", '"""Module."""'),
        ("class Sender", "# Sends it."),
        ("class Sender > def name", "    @property"),
        ("class Sender > def send", "    async def send(self) -> None:"),
        ("class Sender", "    after = 2"),
        ("def main", "def main():"),
        ("", "main()"),
    ]


def test_code_names_its_file_and_its_programming_language() -> None:
    document = read("app/mail.py", PYTHON)
    assert (document.source, document.title) == ("app/mail.py", "mail.py")
    assert document.attributes == {"programming_language": "python"}
    assert {block.heading[0] for block in document.blocks} == {"mail.py"}
    assert document.blocks[1].text.startswith("```python\n# Sends it.")


def test_no_line_of_code_is_lost() -> None:
    source = Path(sys.modules[Block.__module__].__file__ or "").parent / "code.py"
    inside = [line for block in read("code.py", source.read_bytes()).blocks for line in block.text.split("\n")[1:-1]]
    assert [line for line in inside if line] == [line for line in source.read_text().split("\n") if line]


def test_python_of_another_version_is_cut_by_its_looks() -> None:
    found = places(
        "old.py", "import os\n\ndef go(a):\n    print a\n\nclass B(object):\n    def c(self):\n        exec x\n"
    )
    assert [names for names, _ in found] == ["", "go", "class B", "class B > c"]


SOURCES = {
    "A.java": (
        "package a;\n\n/**\n * Sends to all (users).\n */\n@Service\npublic class Mailer {\n    private int n = 3;\n\n"
        "    public Mailer(int n) {\n        this.n = n;\n    }\n\n    /** Sends. */\n    @Override\n"
        "    public <T> List<T> send(Mail mail) throws X {\n        if (mail == null) {\n            throw new X();\n"
        "        }\n    }\n}\n",
        ["", "class Mailer", "class Mailer > Mailer", "class Mailer > send"],
    ),
    "a.ts": (
        "import x from 'y';\n\nexport interface Foo {\n  a: string;\n}\n\n"
        "export const run = async (a: number) => {\n  const inner = () => 2;\n  return inner();\n};\n\n"
        "// Goes.\nexport default async function go(): Promise<void> {\n  await x();\n}\nrun(3);\n",
        ["", "interface Foo", "run", "go", ""],
    ),
    "a.go": (
        "package main\n\n// Start starts.\nfunc (s *Server) Start(c Context) error {\n\tif x {\n\t\treturn nil\n\t}\n"
        "\treturn nil\n}\n\ntype Server struct {\n\tAddr string\n}\n",
        ["", "Start", "Server"],
    ),
    "a.rs": (
        "use std::io;\n\n#[derive(Debug)]\npub struct Point { x: i32 }\n\nimpl<T> Show for Point {\n"
        "    fn show(&self) -> i32 {\n        1\n    }\n}\n",
        ["", "struct Point", "impl Show for Point", "impl Show for Point > show"],
    ),
    "a.c": (
        "/* Licence:\n   class of it (c) */\n#include <a.h>\n\nstatic int *add(int a)\n{\n    for (;;) {}\n#ifdef X\n"
        "    foo();\n#endif\n    return a;\n}\n\nint main(void) {\n    return 0;\n}\n",
        ["", "add", "main"],
    ),
    "a.sql": (
        "-- Users.\nCREATE TABLE IF NOT EXISTS users (\n  id int\n);\nINSERT INTO users VALUES (1);\n"
        "create or replace view v as select 1;\n",
        ["TABLE users", "", "view v"],
    ),
    "a.sh": ("set -e\n# Goes.\ngo() {\n  echo x\n}\n\ngo\n", ["", "go", ""]),
    "a.yml": ("kind: X\nmetadata:\n  name: a\nspec:\n  # Two.\n  n: 2\n---\nname: z\n", ["", "metadata", "spec", ""]),
    "a.json": ('{"name": "x",\n  "scripts": {\n    "a": "b"\n  },\n  "version": "1"\n}\n', ["", "scripts", ""]),
    "a.toml": ("a = 1\n\n[tool.a]\nx = 1\n[[b]]\ny = 2\n", ["", "tool.a", "b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_code_is_cut_by_its_looks(name: str) -> None:
    source, expected = SOURCES[name]
    assert [names for names, _ in places(name, source)] == expected
    text = "\n".join(line for block in read(name, source).blocks for line in block.text.split("\n")[1:-1])
    assert text.split() == source.split()


def test_comments_stay_with_what_they_explain() -> None:
    assert ("go", "// Goes.") in places("a.ts", SOURCES["a.ts"][0])
    assert ("class Mailer > send", "    /** Sends. */") in places("A.java", SOURCES["A.java"][0])


def test_a_long_function_is_cut_at_its_blank_lines() -> None:
    steps = "\n\n".join(f"    a{number} = one + two + three\n    b{number} = four + five + six" for number in range(8))
    cut = list(excerpts(read("a.py", f"def long():\n{steps}\n"), count=word_count, most_tokens=50))
    assert len(cut) > 2
    assert all(one.heading == "a.py > def long" for one in cut)
    assert all(one.text.split("\n")[-2].startswith("    b") for one in cut)


def test_a_path_of_names_has_an_end() -> None:
    nested = "".join(f"{' ' * depth}class C{depth}:\n" for depth in range(30)) + " " * 30 + "pass\n"
    assert max(len(block.heading) for block in read("a.py", nested).blocks) == 9


def test_code_with_fences_in_it_is_one_listing() -> None:
    [block] = read("a.js", "const a = `\n```\nx\n```\n`\n").blocks
    assert block.text.split("\n")[0] == "````javascript"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.py", "(" * 50_000),
        ("a.py", "x = " + "-" * 100_000 + "1"),
        ("a.json", "[" * 200_000),
        ("a.yaml", "".join(" " * depth + "a:\n" for depth in range(1_000))),
        ("a.js", "class " + "a " * 500_000),
        ("a.ts", ("class " + "a.b " * 90 + "\n") * 500),
        ("a.c", ("int " * 99 + "\n") * 2_000),
    ],
)
def test_hostile_code_is_read_or_refused(name: str, content: str) -> None:
    try:
        assert read(name, content).blocks
    except Refusal as refused:
        assert "deep" in str(refused)


@given(st.sampled_from(sorted(SOURCES)), st.text(alphabet="class fn(){}:;[]=\n\t\"'/*#-ab1", max_size=300))
def test_any_code_is_read_whole_or_refused(name: str, text: str) -> None:
    try:
        blocks = read(name, text).blocks
    except Refusal:
        assert not text.strip()
    else:
        inside = "\n".join(line for block in blocks for line in block.text.split("\n")[1:-1])
        assert inside.split() == text.split()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The service answers with a list of the passages that it found.", "en"),
        ("Der Dienst antwortet mit einer Liste der Stellen, die er gefunden hat.", "de"),
        ("Le service répond avec une liste des passages qui sont dans la base.", "other"),
        ("De dienst antwoordt met een lijst van de passages die zijn gevonden.", "other"),
        ("El servicio responde con una lista de los pasajes que se encuentran.", "other"),
        ("Tjänsten svarar med en lista på det som den har hittat och inte mer.", "other"),
        ("42 17 99", "other"),
        ("Widget A4, Widget B5, Widget C6, Sprocket M3, Sprocket M4", "other"),
        ("服务返回它找到的段落列表。", "other"),
    ],
)
def test_the_language_is_told_by_small_words(text: str, language: str) -> None:
    assert language_of([text]) == language


def test_a_document_tells_its_language_its_hash_and_when_it_came() -> None:
    content = b"# Plan\n\nThis is the plan for the next of the two years."
    [document] = stamped(parse("a.md", content), content, 1_800_000_000.7).documents
    assert document.attributes == {
        "language": "en",
        "content_hash": "332c847d64a45b6e55dceebfc71e732add31c6640e1026738fcf9476d256b332",
        "ingested_at": 1_800_000_000,
    }
