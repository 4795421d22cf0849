import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.documents import office
from serve_app.documents.document import Block, Document, Refusal
from serve_app.documents.parse import EXTENSIONS, decode, parse
from tests.unit.documents import pdf, word_document


def read(name: str, content: str | bytes) -> Document:
    reading = parse(name, content.encode() if isinstance(content, str) else content)
    assert len(reading.documents) == 1
    return reading.documents[0]


def test_markdown_keeps_its_heading_path() -> None:
    document = read("ops.md", "# Operations\n\nIntro.\n\n## Rollback\n\nSwitch *back*.\n\n# Other\n\nEnd.")
    assert document.title == "Operations"
    assert [(block.heading, block.text) for block in document.blocks] == [
        (("Operations",), "Intro."),
        (("Operations", "Rollback"), "Switch back."),
        (("Other",), "End."),
    ]


def test_markdown_code_stays_whole_with_its_blank_lines() -> None:
    document = read("a.md", "Run:\n\n```sh\nmake\n\nmake test\n```\n")
    assert document.blocks[1] == Block(text="```sh\nmake\n\nmake test\n```", kind="code")


def test_a_markdown_table_is_rows_under_their_header() -> None:
    document = read("a.md", "| step | who |\n|---|---|\n| stop | `ops` |\n")
    assert document.blocks == (Block(text="| step | who |\n| stop | `ops` |", kind="table"),)


def test_a_markdown_list_is_one_block_and_its_code_another() -> None:
    document = read("a.md", "1. first\n   - inner\n2. second\n\n   ```\n   code\n   ```\n3. third\n")
    assert [(block.kind, block.text) for block in document.blocks] == [
        ("prose", "1. first\n  - inner\n2. second"),
        ("code", "```\ncode\n```"),
        ("prose", "3. third"),
    ]


def test_front_matter_gives_the_title_and_is_not_text() -> None:
    document = read("a.md", "---\ntitle: The Guide\ndraft: true\n---\n# One\n\nText.")
    assert (document.title, [block.text for block in document.blocks]) == ("The Guide", ["Text."])


def test_tags_and_comments_in_markdown_are_dropped() -> None:
    document = read("a.md", "<!-- hidden -->\n\n<details><summary>More</summary>\n\nInside.\n\n</details>\n")
    assert [block.text for block in document.blocks] == ["More", "Inside."]


def test_a_document_of_headings_alone_is_its_headings() -> None:
    assert [block.text for block in read("a.md", "# Only\n\n## This").blocks] == ["Only\nThis"]


def test_html_is_read_without_its_furniture() -> None:
    page = """<html><head><title>Guide</title><style>p{}</style></head><body><nav><a>Home</a></nav><main>
      <h1>Setup</h1><p>Install   <b>it</b>.</p><h2>Run</h2><ul><li>one</li><li>two</li></ul>
      <pre>make
test</pre><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><script>x()</script></main>
      <footer>(c)</footer></body></html>"""
    document = read("a.html", page)
    assert document.title == "Guide"
    assert [(block.kind, block.heading, block.text) for block in document.blocks] == [
        ("prose", ("Setup",), "Install it."),
        ("prose", ("Setup", "Run"), "- one\n- two"),
        ("code", ("Setup", "Run"), "```\nmake\ntest\n```"),
        ("table", ("Setup", "Run"), "| a | b |\n| 1 | 2 |"),
    ]


def test_html_in_another_encoding_is_read_as_it_says() -> None:
    page = '<html><head><meta charset="iso-8859-1"></head><body><p>Köln</p></body></html>'
    assert read("a.html", page.encode("latin-1")).blocks[0].text == "Köln"


def test_a_pdf_keeps_its_page_numbers_and_bookmarks() -> None:
    content = pdf("Setup\nInstall it.", "Run it.", bookmarks=(("Setup", 0), ("Run", 1)), title="Guide")
    document = read("a.pdf", content)
    assert document.title == "Guide"
    assert [(block.page, block.heading, block.text) for block in document.blocks] == [
        (1, ("Setup",), "Install it."),
        (2, ("Run",), "Run it."),
    ]


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    document = read("a.docx", word_document())
    assert [(block.kind, block.heading, block.text) for block in document.blocks] == [
        ("prose", ("Operations",), "Keep calm."),
        ("prose", ("Operations", "Rollback"), "- Stop traffic\n- Switch back"),
        ("table", ("Operations", "Rollback"), "| step | who |\n| stop | ops |"),
    ]


def test_each_line_of_json_is_a_document_named_by_its_line() -> None:
    lines = [
        {"source": "org/manual", "path": "a.md", "id": "1", "title": "A", "text": "# H\n\nOne."},
        {"url": "https://example.org/b", "content": "Two."},
        {"body": "Three."},
    ]
    reading = parse("set.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert [(document.source, document.title) for document in reading.documents] == [
        ("org/manual/a.md", "A"),
        ("https://example.org/b", "b"),
        ("set.jsonl#3", "set"),
    ]
    assert reading.documents[0].attributes == {"id": "1"}


def test_a_bad_line_of_json_is_skipped_with_its_number() -> None:
    reading = parse("set.jsonl", b'{"text": "Good."}\n{"text": \n{"text": " "}\n[1]\n')
    assert len(reading.documents) == 1
    assert [reason.split(" (")[0] for reason in reading.skipped] == [
        "line 2: not JSON",
        "line 3: no text; a line needs a non-empty string in `text`, `content` or `body`",
        "line 4: a JSON object is expected, not list",
    ]


def archive(**parts: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in parts.items():
            opened.writestr(name.replace("__", "/") + ".xml", content)
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.md", b"", "the file is empty"),
        ("a.txt", b" \n\t", "the file is empty"),
        ("a.exe", b"MZ", ".exe is not a kind of document that is read"),
        ("README", b"x", "a name without an extension is not a kind"),
        ("a.md", b"%PDF-1.7 ...", "the name ends in .md but the content is a PDF"),
        ("a.txt", b"ab\x00cd", "the name ends in .txt but the content is binary"),
        ("a.txt", b"\xff\xfe\x00", "it is not UTF-16 text"),
        ("a.txt", bytes(range(128, 256)) * 4, "it is not UTF-8 text"),
        ("a.html", b"<html><body><script>x</script></body></html>", "there is no text in it"),
        ("a.pdf", b"hello", "the name ends in .pdf but the content is something else"),
        ("a.pdf", b"%PDF-1.7\nbroken", "the PDF is damaged"),
        ("a.pdf", pdf("secret", password="hunter2"), "the PDF is protected by a password"),
        ("a.pdf", pdf(""), "the PDF has no text, only images"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + bytes(600), "the Word document is protected by a password"),
        ("a.docx", b"PK\x03\x04 broken", "the Word document is damaged"),
        ("a.docx", archive(other=b"x"), "the content is another kind of archive"),
        ("a.docx", archive(word__document=b"<broken"), "the Word document is damaged"),
        ("a.jsonl", b"not json", "line 1: not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(name, content)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_word_document_that_unpacks_to_too_much_is_not_unpacked() -> None:
    bomb = archive(word__document=bytes(office.MOST_UNPACKED_BYTES + 1))
    assert len(bomb) < 2**20
    with pytest.raises(Refusal, match="unpacks to 200 MiB"):
        parse("a.docx", bomb)


def test_a_pdf_without_a_password_to_open_is_read_although_it_is_encrypted() -> None:
    opened = pdf("Public text.", password="")
    assert read("a.pdf", opened).blocks[0].text == "Public text."


def test_text_of_an_older_editor_is_understood() -> None:
    assert decode("Café “quoted” – done".encode("cp1252")) == "Café “quoted” – done"


def test_text_with_a_byte_order_mark_is_read_without_it() -> None:
    assert decode("\ufeffä".encode()) == "ä"
    assert decode("ä\r\nb".encode("utf-16")) == "ä\nb"


@given(st.sampled_from(EXTENSIONS), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(extension: str, content: bytes) -> None:
    try:
        reading = parse(f"a{extension}", content)
    except Refusal as refused:
        assert str(refused)
    else:
        assert any(document.blocks for document in reading.documents)


@given(st.text(max_size=400))
def test_any_markdown_is_read_or_refused(text: str) -> None:
    try:
        reading = parse("a.md", text.encode("utf-8", "replace"))
    except Refusal as refused:
        assert str(refused)
    else:
        assert all(block.text.strip() for document in reading.documents for block in document.blocks)
