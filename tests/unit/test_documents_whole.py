"""Nothing of a document is lost on its way into chunks, whatever its format, and its structure is kept."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import docx
import pptx
import pytest
from docx.document import Document as WordDocument
from docx.oxml import OxmlElement
from docx.oxml.ns import nsdecls, qn
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pptx.util import Cm
from pypdf import PdfReader, PdfWriter

from serve_app.documents.chunk import Excerpt, excerpts
from serve_app.documents.document import Block, Reading, Refusal
from serve_app.documents.headings import LONGEST_HEADING
from serve_app.documents.parse import parse
from serve_app.documents.tokens import minilm_tokenizer, token_count
from tests.unit.documents import pdf, presentation
from tests.unit.hostile_documents import paragraph, rezipped, word

COUNT = token_count(minilm_tokenizer())


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it; every word is a word of its own."""

    level: int
    title: str
    paragraphs: tuple[str, ...]
    items: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: str

    @property
    def body(self) -> str:
        return " ".join([*self.paragraphs, *self.items, *(cell for row in self.rows for cell in row), self.code])


def numbered(shape: list[tuple[int, int, int, int, int]]) -> list[Section]:
    """(level, sentences, items, rows, lines of code) of each section -> sections whose words count up."""
    words = (f"w{number:05d}" for number in range(10**5))

    def some(count: int) -> str:
        return " ".join(next(words) for _ in range(count))

    return [
        Section(
            level=level,
            title=some(2),
            paragraphs=tuple(f"{some(9)}. {some(40 * (number % 3) + 5)}." for number in range(sentences)),
            items=tuple(some(7) for _ in range(items)),
            rows=tuple((some(1), some(3)) for _ in range(rows)),
            code="\n".join(some(6) for _ in range(lines)),
        )
        for level, sentences, items, rows, lines in shape
    ]


SHAPES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 9), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=6,
)


def markdown(sections: list[Section]) -> bytes:
    def written(section: Section) -> Iterator[str]:
        yield f"{'#' * section.level} {section.title}"
        yield from section.paragraphs
        yield "\n".join(f"* {item}" for item in section.items)
        head, *rest = [f"| {' | '.join(row)} |" for row in section.rows] or [""]
        yield "\n".join([head, "|---|---|", *rest]) if head else ""
        yield f"```\n{section.code}\n```" if section.code else ""

    return "\n\n".join(part for section in sections for part in written(section)).encode()


def html(sections: list[Section]) -> bytes:
    def written(section: Section) -> Iterator[str]:
        yield f"<h{section.level}>{section.title}</h{section.level}>"
        yield from (f"<p>{text}</p>" for text in section.paragraphs)
        yield "<ul>" + "".join(f"<li>{item}" for item in section.items) + "</ul>"
        yield "<table>" + "".join(f"<tr><td>{'<td>'.join(row)}" for row in section.rows) + "</table>"
        yield f"<pre>{section.code}</pre>"

    return "".join(part for section in sections for part in written(section)).encode()


def word_file(sections: list[Section]) -> bytes:
    made = docx.Document()
    for section in sections:
        made.add_heading(section.title, section.level)
        for text in section.paragraphs:
            made.add_paragraph(text)
        for text in section.items:
            made.add_paragraph(text, style="List Bullet")
        if section.rows:
            table = made.add_table(0, 2)
            for row in section.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        if section.code:
            made.add_paragraph(section.code, style="macro")
    return saved(made)


def slides(sections: list[Section]) -> bytes:
    made = pptx.Presentation()
    for section in sections:
        slide = made.slides.add_slide(made.slide_layouts[5])
        slide.shapes.title.text = section.title
        frame = slide.shapes.add_textbox(0, Cm(5), Cm(9), Cm(1)).text_frame
        frame.text = "\n".join([*section.paragraphs, *section.items])
        if section.rows:
            table = slide.shapes.add_table(len(section.rows), 2, 0, Cm(9), Cm(9), Cm(1)).table
            for at, row in enumerate(section.rows):
                table.cell(at, 0).text, table.cell(at, 1).text = row
        if section.code:
            slide.notes_slide.notes_text_frame.text = section.code
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def text(sections: list[Section]) -> bytes:
    return "\n\n".join(f"{section.title}\n\n{section.body}" for section in sections).encode()


def code(sections: list[Section]) -> bytes:
    return "\n\n".join(f"class {s.title.replace(' ', '_')}:\n    '''{s.body}'''" for s in sections).encode()


def table(sections: list[Section]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([("title", "body"), *((section.title, section.body) for section in sections)])
    return written.getvalue().encode()


def json_lines(sections: list[Section]) -> bytes:
    return "\n".join(json.dumps({"title": one.title, "text": markdown([one]).decode()}) for one in sections).encode()


def pdf_file(sections: list[Section]) -> bytes:
    """A page per section; a line of the page holds four words."""

    def lines(section: Section) -> str:
        words = section.body.split()
        return "\n".join([section.title, *(" ".join(words[at : at + 4]) for at in range(0, len(words), 4))])

    return pdf(*map(lines, sections), bookmarks=tuple((one.title, at) for at, one in enumerate(sections)))


FORMATS: dict[str, Callable[[list[Section]], bytes]] = {
    "a.md": markdown,
    "a.html": html,
    "a.docx": word_file,
    "a.pptx": slides,
    "a.txt": text,
    "a.py": code,
    "a.csv": table,
    "a.jsonl": json_lines,
    "a.pdf": pdf_file,
}


def cut(name: str, content: bytes, most_tokens: int = 60) -> list[Excerpt]:
    documents = parse(name, content).documents
    return [one for each in documents for one in excerpts(each, count=COUNT, most_tokens=most_tokens)]


def words_of(written: str) -> list[str]:
    return re.findall(r"w\d{5}", written)


@pytest.mark.parametrize("name", FORMATS)
@given(shape=SHAPES)
@hypothesis_settings(max_examples=15)
def test_every_word_is_in_a_chunk_in_its_order_and_no_chunk_is_over_the_limit(
    name: str, shape: list[tuple[int, int, int, int, int]]
) -> None:
    sections = numbered(shape)
    made = cut(name, FORMATS[name](sections))
    assert all(COUNT(one.encoded) <= 60 and one.text.strip() for one in made)
    told = [word for one in made for word in words_of(one.text)]
    body = [word for section in sections for word in words_of(section.body)]
    repeated = set(words_of(" ".join(" ".join(section.rows[0]) for section in sections if section.rows)))
    in_order = sorted(set(told), key=told.index)
    assert [word for word in in_order if word in set(body)] == body, "all of them, first come in their order"
    assert len([word for word in told if word not in repeated]) == len({*told} - repeated), "each once"
    everywhere = {word for one in made for word in words_of(f"{one.title} {one.heading} {one.text}")}
    assert {word for section in sections for word in words_of(section.title)} <= everywhere


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.docx", "a.pptx", "a.pdf"])
@given(shape=SHAPES)
@hypothesis_settings(max_examples=10)
def test_every_chunk_stands_under_its_own_headings(name: str, shape: list[tuple[int, int, int, int, int]]) -> None:
    sections = numbered(shape)
    above = {word: section.title for section in sections for word in words_of(section.body)}
    for one in cut(name, FORMATS[name](sections)):
        assert {above[word] for word in words_of(one.text) if word in above} <= {one.heading.split(" > ")[-1]}


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.docx", "a.pptx"])
def test_a_table_stays_a_table_and_every_part_of_it_has_the_header(name: str) -> None:
    sections = numbered([(1, 0, 0, 40, 0)])
    parts = [one.text for one in cut(name, FORMATS[name](sections)) if one.text.startswith("|")]
    assert len(parts) > 3
    assert {part.split("\n")[0] for part in parts} == {f"| {' | '.join(sections[0].rows[0])} |"}
    assert [line for part in parts for line in part.split("\n")[1:]] == [
        f"| {' | '.join(row)} |" for row in sections[0].rows[1:]
    ]


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.docx"])
def test_a_listing_that_fits_is_one_block(name: str) -> None:
    sections = numbered([(1, 1, 2, 0, 4)])
    assert f"```\n{sections[0].code}\n```" in [
        block.text for block in parse(name, FORMATS[name](sections)).documents[0].blocks
    ]


@pytest.mark.parametrize("name", ["a.pptx", "a.pdf"])
def test_every_chunk_knows_its_page(name: str) -> None:
    sections = numbered([(1, 1, 1, 0, 0)] * 3)
    pages = {word: at for at, section in enumerate(sections, start=1) for word in words_of(section.body)}
    for one in cut(name, FORMATS[name](sections)):
        assert {pages[word] for word in words_of(one.text) if word in pages} <= {one.page}


def read(name: str, content: str | bytes) -> Reading:
    return parse(name, content.encode() if isinstance(content, str) else content)


def blocks(name: str, content: str | bytes) -> list[str]:
    return [block.text for document in read(name, content).documents for block in document.blocks]


def saved(made: WordDocument) -> bytes:
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def test_headings_with_nothing_under_them_are_text() -> None:
    document = read("a.md", "# A\n\n## Empty\n\n## Full\n\ntext\n\n# Last").documents[0]
    assert [(block.heading, block.text) for block in document.blocks] == [
        (("A", "Empty"), "Empty"),
        (("A", "Full"), "text"),
        (("Last",), "Last"),
    ]


def test_a_heading_of_the_length_of_a_text_is_a_text() -> None:
    long = "word " * LONGEST_HEADING
    document = read("a.md", f"# {long}\n\nx").documents[0]
    assert (document.title, [block.text for block in document.blocks]) == ("a", [long.strip(), "x"])


def test_a_title_of_the_length_of_a_text_is_a_text() -> None:
    document = read("a.jsonl", json.dumps({"title": "word " * 1_000, "text": "x"})).documents[0]
    assert len(document.title) == LONGEST_HEADING
    assert [block.text for block in document.blocks] == [("word " * 1_000).strip(), "x"]


def test_a_line_of_json_with_a_source_without_end_is_refused() -> None:
    with pytest.raises(Refusal, match="its source has 3000 characters"):
        read("a.jsonl", json.dumps({"url": "u" * 3_000, "text": "x"}))


def test_control_characters_and_soft_hyphens_are_not_text() -> None:
    assert blocks("a.txt", "Roll\u00adback \x1b[31mred\x07 zero\u200bwidth\x0bnext") == [
        "Rollback [31mred zerowidth\nnext"
    ]


def test_lists_and_quotations_are_read_however_deep_or_refused() -> None:
    nested = "".join(f"{'  ' * depth}- item{depth}\n" for depth in range(15))
    [block] = blocks("a.md", nested)
    assert [line.split()[-1] for line in block.split("\n")] == [f"item{depth}" for depth in range(15)]
    assert blocks("a.md", "> " * 35 + "deep") == ["deep"]
    with pytest.raises(Refusal, match="nested too deeply"):
        read("a.md", "> " * 500 + "deep")


def test_html_in_markdown_is_read_as_html() -> None:
    written = (
        "Cell<br>two <!-- no --> <script>evil()</script> end\n\n<script>\nevil()\n</script>\n\n"
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>\n\n- item\n\n  <p hidden>no</p>\n"
    )
    assert blocks("a.md", written) == ["Cell\ntwo   end", "| a | b |\n| 1 | 2 |", "- item"]


WORD = {
    "a nested table": (
        "<w:tbl><w:tr><w:tc>{a}</w:tc><w:tc>{b}<w:tbl><w:tr><w:tc>{c}</w:tc><w:tc>{d}</w:tc></w:tr></w:tbl></w:tc>"
        "</w:tr></w:tbl>",
        ["| a | b |", "| c | d |"],
    ),
    "a frame": ("<w:tbl><w:tr><w:tc>{a}{b}</w:tc></w:tr></w:tbl>", ["a", "b"]),
    "a cell merged downwards": (
        "<w:tbl><w:tr><w:tc><w:tcPr><w:vMerge w:val='restart'/></w:tcPr>{a}</w:tc><w:tc>{b}</w:tc></w:tr>"
        "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p/></w:tc><w:tc>{c}</w:tc></w:tr></w:tbl>",
        ["| a | b |\n| a | c |"],
    ),
    "a content control": ("<w:sdt><w:sdtPr/><w:sdtContent>{a}{b}</w:sdtContent></w:sdt>", ["a", "b"]),
    "tracked changes": (
        "<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
        ["new"],
    ),
    "a field and a link": (
        "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r><w:hyperlink><w:r><w:t>see</w:t></w:r></w:hyperlink></w:p>",
        ["see"],
    ),
    "a text box drawn for two ages": (
        "<w:p><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:txbxContent>{a}</w:txbxContent></mc:Choice>"
        "<mc:Fallback><w:txbxContent>{a}</w:txbxContent></mc:Fallback></mc:AlternateContent></w:r>"
        "<w:r><w:t>beside</w:t></w:r></w:p>",
        ["beside", "a"],
    ),
    "a numbered paragraph": (
        "<w:p><w:pPr><w:numPr><w:ilvl w:val='1'/><w:numId w:val='3'/></w:numPr></w:pPr><w:r><w:t>one</w:t></w:r></w:p>",
        ["- one"],
    ),
    "breaks and tabs": (
        "<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t><w:tab/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>",
        ["a\nb\tc-d"],
    ),
    "a formula": ("<w:p><m:oMath><m:r><m:t>E=mc</m:t></m:r></m:oMath></w:p>", ["E=mc"]),
}


@pytest.mark.parametrize("name", WORD)
def test_a_word_document_is_read_with(name: str) -> None:
    body, expected = WORD[name]
    written = word(body.format(**{letter: paragraph(letter) for letter in "abcd"}))
    assert blocks("a.docx", written) == expected


def test_an_outline_level_is_a_heading_in_any_language() -> None:
    body = "<w:p><w:pPr><w:outlineLvl w:val='0'/></w:pPr><w:r><w:t>Betrieb</w:t></w:r></w:p>" + paragraph("Ruhe.")
    assert read("a.docx", word(body)).documents[0].blocks == (Block(text="Ruhe.", heading=("Betrieb",)),)


def test_hidden_text_of_a_word_document_is_left_out_and_that_is_said() -> None:
    body = "<w:p><w:r><w:t>seen</w:t></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
    assert blocks("a.docx", word(body)) == ["seen"]
    assert read("a.docx", word(body)).skipped == ("hidden text was left out",)


def test_notes_stand_behind_their_paragraph_and_page_heads_at_the_end() -> None:
    made = docx.Document()
    made.sections[0].header.paragraphs[0].text = "Version 7"
    made.sections[0].footer.paragraphs[0].text = "Legal department"
    made.add_heading("Terms", 1)
    made.add_paragraph("They end in May.")._p.append(reference())
    made.add_paragraph("Then they end.")
    notes = (
        f'<w:footnotes {nsdecls("w")}><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
        f'<w:footnote w:id="1">{paragraph("Unless renewed.")}</w:footnote></w:footnotes>'
    )
    document = read("a.docx", with_footnotes(saved(made), notes)).documents[0]
    assert [(block.heading, block.text) for block in document.blocks] == [
        (("Terms",), "They end in May."),
        (("Terms",), "Note: Unless renewed."),
        (("Terms",), "Then they end."),
        ((), "Version 7"),
        ((), "Legal department"),
    ]


def reference() -> object:
    run = OxmlElement("w:r")
    mark = OxmlElement("w:footnoteReference")
    mark.set(qn("w:id"), "1")
    run.append(mark)
    return run


def with_footnotes(content: bytes, notes: str) -> bytes:
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"

    def linked(xml: str) -> str:
        return xml.replace(
            "</Relationships>", f'<Relationship Id="rId99" Type="{relation}" Target="footnotes.xml"/></Relationships>'
        )

    def typed(xml: str) -> str:
        return xml.replace("</Types>", f'<Override PartName="/word/footnotes.xml" ContentType="{kind}"/></Types>')

    changes = {"word/_rels/document.xml.rels": linked, "[Content_Types].xml": typed}
    return rezipped(content, changes, {"word/footnotes.xml": notes})


def test_a_shape_of_a_newer_program_and_the_title_of_a_chart_are_read() -> None:
    def newer(xml: str) -> str:
        drawn = (
            '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
            '<mc:Choice Requires="x"><a:p><a:r><a:t>drawn anew</a:t></a:r></a:p></mc:Choice>'
            "<mc:Fallback><a:p><a:r><a:t>drawn anew</a:t></a:r></a:p></mc:Fallback></mc:AlternateContent>"
        )
        return xml.replace("</p:spTree>", f"{drawn}</p:spTree>")

    content = rezipped(presentation(), {"ppt/slides/slide1.xml": newer}, {})
    assert blocks("a.pptx", content)[2:4] == ["drawn anew", "Notes: Say it slowly."]


def test_only_what_a_reader_of_a_page_sees_is_read() -> None:
    page = """<body onload="evil()"><h1>Setup<a href="#s">¶</a></h1><!-- comment --><style>p{}</style>
      <p>seen <span style="display: none">hidden1</span></p><p hidden>hidden2</p><p style="font-size:0px">hidden3</p>
      <p style="visibility:HIDDEN">hidden4</p><p style="opacity:0;">hidden5</p><p style="opacity:0.5">pale</p>
      <img src="data:text/html,evil" onerror="evil()"><a href="javascript:evil()" onclick="evil()">link</a>
      <svg><text>drawn</text></svg><template>later</template><object>fallback</object><iframe srcdoc="evil"></iframe>
      <div role="tabpanel" hidden>second tab</div><p hidden="until-found">folded</p>
      <input value="typed"><textarea>typed</textarea></body>"""
    reading = read("a.html", page)
    told = " ".join(f"{block.heading} {block.text}" for block in reading.documents[0].blocks)
    assert all(word in told for word in ("Setup", "seen", "pale", "link", "second tab", "folded"))
    assert not re.search(r"evil|hidden|comment|¶|drawn|later|fallback|typed|\{", told)
    assert reading.skipped == ("hidden elements were left out: 5",)


def test_the_cells_of_a_layout_table_stay_apart() -> None:
    page = "<table><tr><td>left<td>right<table><tr><td>a<td>b</table></table>"
    assert blocks("a.html", page) == ["left\nright", "| a | b |"]


def test_captions_remarks_and_all_articles_are_read() -> None:
    page = (
        "<header>banner</header><article><h2>One</h2><aside>remark</aside></article><article><h2>Two</h2>"
        "<table><caption>Prices</caption><tr><td>a<td>b</table><pre>x<br>y</pre></article><footer>imprint</footer>"
    )
    assert blocks("a.html", page) == ["remark", "Prices", "| a | b |", "```\nx\ny\n```"]


def test_a_definition_list_and_a_form_keep_their_words() -> None:
    assert blocks("a.html", "<dl><dt>term<dd>meaning</dl><form><label>Name</label><p>Why we ask.</form>") == [
        "term\nmeaning",
        "Name",
        "Why we ask.",
    ]


def test_ligatures_and_hyphens_of_a_pdf_are_words_again() -> None:
    assert blocks("a.pdf", pdf("The con-\nfiguration is fine.")) == ["The configuration is fine."]


def test_a_damaged_page_and_one_of_images_are_named_and_the_others_read() -> None:
    assert blocks("a.pdf", partly_damaged()) == ["first", "third"]
    [damaged, drawn] = read("a.pdf", partly_damaged()).skipped
    assert damaged.startswith("page 2 cannot be read (")
    assert drawn.startswith("page 4 without text, only images")


def partly_damaged() -> bytes:
    """Four pages: text, a content stream that does not inflate, text, an image alone."""
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, NumberObject, StreamObject

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("first", "second", "third", ""))))
    broken = StreamObject()
    broken._data = b"\x00 not deflated"
    broken[NameObject("/Filter")] = NameObject("/LZWDecode")
    broken[NameObject("/DecodeParms")] = NumberObject(3)
    writer.pages[1][NameObject("/Contents")] = writer._add_object(broken)
    image = DecodedStreamObject()
    image.set_data(bytes(100))
    for name, what in (("/Type", "/XObject"), ("/Subtype", "/Image"), ("/ColorSpace", "/DeviceGray")):
        image[NameObject(name)] = NameObject(what)
    for name, size in (("/Width", 10), ("/Height", 10), ("/BitsPerComponent", 8)):
        image[NameObject(name)] = NumberObject(size)
    drawn = DictionaryObject({NameObject("/I1"): writer._add_object(image)})
    writer.pages[3][NameObject("/Resources")][NameObject("/XObject")] = drawn  # type: ignore[index]
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()
