"""Programs and configuration: cut where their definitions begin, each under the path of names that leads to it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from serve_app.documents.document import Document
from serve_app.documents.headings import Outline
from serve_app.documents.python import python_places

LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript",
    ".jsx": "javascript", ".ts": "typescript", ".tsx": "typescript", ".java": "java", ".kt": "kotlin",
    ".scala": "scala", ".go": "go", ".rs": "rust", ".c": "c", ".h": "c", ".cpp": "cpp", ".cc": "cpp", ".hpp": "cpp",
    ".cs": "csharp", ".rb": "ruby", ".php": "php", ".swift": "swift", ".sh": "bash", ".bash": "bash", ".sql": "sql",
    ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json", ".ini": "ini", ".proto": "protobuf",
    ".tf": "hcl",
}  # fmt: skip
_WORDS = r"(?:(?:export|default|pub(?:\([a-z]+\))?|public|private|protected|internal|static|final|abstract|async|unsafe|extern|const|override|virtual|inline|sealed|open|data|partial|declare)\s+)*"  # noqa: E501
_CONTAINER = re.compile(
    rf"{_WORDS}(?P<what>class|interface|struct|enum|trait|impl|namespace|module|object|record|message|protocol)"
    r"(?:<[^>]*>)?\s+(?P<name>[\w$][\w$<>:,.&' ]*?)\s*(?:[{(:].*)?$"
)
_FUNCTION = re.compile(
    rf"{_WORDS}(?:func(?:tion)?\*?|fn|def|fun|sub|rpc|mod|type)\s+(?:\([^)]*\)\s*)?(?P<name>[\w$.]+)"
)
_ARROW = re.compile(
    r"(?:export\s+)?(?:const|let|var)\s+(?P<name>[\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?(?:function\b|\()"
)
_METHOD = re.compile(r"(?!(?:if|for|while|switch|catch|return|else|do|new|throw|await|case|sizeof|using|with)\b)"
                     r"(?:[\w$<>\[\],.&*:?~@]+\s+){0,6}[*&]*(?P<name>[\w$:~]+)\s*\([^;]*$")  # fmt: skip
_BRACED = {"javascript", "typescript", "java", "kotlin", "c", "cpp", "csharp", "php", "swift", "scala"}
_SQL = re.compile(
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+|UNIQUE\s+|MATERIALIZED\s+)*"
    r"(?P<what>TABLE|VIEW|FUNCTION|PROCEDURE|INDEX|TRIGGER|TYPE|SCHEMA)\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>[\w.\"`]+)",
    re.IGNORECASE,
)
_SHELL = re.compile(r"(?:function\s+)?(?P<name>[\w:-]+)\s*\(\)")
_SECTION = re.compile(r"\[+\s*(?P<name>[^\]]+?)\s*\]+\s*(?:[#;].*)?$")
_KEY = re.compile(r"[\"']?(?P<name>[\w./$@][\w./$@ -]*?)[\"']?\s*:\s*[{\[|>&-]*\s*(?:#.*)?$")
"""Only one that opens something: a value of its own line is no place."""
_BLOCK = re.compile(r"(?P<what>resource|data|module|variable|output|provider|locals|terraform)\b\s*(?P<name>[^{]*)\{")
_SPECIAL = {
    "sql": _SQL, "bash": _SHELL, "hcl": _BLOCK, "yaml": _KEY, "json": _KEY, "toml": _SECTION, "ini": _SECTION,
}  # fmt: skip
_SECTIONED = {"toml", "ini"}
"""A section ends where the next begins, whatever the indentation."""
_ABOVE = re.compile(r"\s*(?://|/\*|\*|#(?!include|define|if|endif|else|pragma)|--|@|\[\w)")
"""A line that belongs to the definition under it: a comment, a decorator, an annotation."""
_CONTINUES = re.compile(r"\s*(?:[})\]{]|end\b|else\b|catch\b|finally\b|#|//|/\*|\*|--|fi\b|done\b|esac\b)")
_DEEPEST = 8
"""Names in a path; what is defined deeper stands under the eighth."""
_LONGEST_LINE = 400
"""No definition begins on a longer one, which a machine wrote: the expressions above are not tried on it."""


@dataclass(frozen=True, slots=True)
class Place:
    """From this line (from 0) on, the text stands under these names."""

    line: int
    names: tuple[str, ...]


def read_code(text: str, source: str) -> Document:
    """The heading path is file > class > function; where nothing is defined, the file alone."""
    path = PurePosixPath(source)
    language = LANGUAGES[path.suffix.lower()]
    lines = text.split("\n")
    places = [Place(*found) for found in python_places(text)] if language == "python" else []
    places = places or list(_places(lines, language))
    outline = Outline()
    ends = [*(place.line for place in places), len(lines)]
    for place, end in zip([Place(0, ()), *places], ends, strict=True):
        outline.headings = list(enumerate((path.name, *place.names[:_DEEPEST]), start=1))
        outline.add(fenced("\n".join(lines[place.line : end]), language), "code")
    return Document(
        source=source, title=path.name, blocks=outline.finish(), attributes={"programming_language": language}
    )


def fenced(code: str, language: str) -> str:
    """As a listing of Markdown, whose fence is longer than any in the code; nothing for nothing."""
    if not code.strip():
        return ""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{_without_blank_ends(code)}\n{fence}"


def _without_blank_ends(code: str) -> str:
    """The first line keeps its indentation."""
    return re.sub(r"\A(?:[^\S\n]*\n)+", "", code.rstrip())


def _places(lines: Sequence[str], language: str) -> Iterator[Place]:
    """By the looks of the lines: a definition holds what is indented deeper, until the next line that is not."""
    above: list[tuple[int, str, bool]] = []
    taken = 0
    for at, line in _telling(lines, language):
        depth = len(line.expandtabs(4)) - len(line.lstrip().expandtabs(4))
        within = [one for one in above if one[0] < depth]
        found = _definition(line.strip(), language) if all(is_container for *_, is_container in within) else None
        if found:
            name, is_container = found
            above = [*within, (depth, name, is_container)]
            begins = _with_comments(lines, at, taken)
        elif len(within) < len(above) and language not in _SECTIONED and not _CONTINUES.match(line):
            above = within
            begins = at
        else:
            continue
        taken = at + 1
        yield Place(begins, tuple(name for _, name, _ in above))


def _telling(lines: Sequence[str], language: str) -> Iterator[tuple[int, str]]:
    """(number, line) of those that can begin or end a definition: no comments, no decorators."""
    is_comment = False
    for at, line in enumerate(lines):
        if is_comment or line.lstrip().startswith("/*"):
            is_comment = "*/" not in line
        elif line.strip() and len(line) <= _LONGEST_LINE and (language in _SECTIONED or not _ABOVE.match(line)):
            yield at, line


def _with_comments(lines: Sequence[str], at: int, taken: int) -> int:
    while at > taken and _ABOVE.match(lines[at - 1][:_LONGEST_LINE]):
        at -= 1
    return at


def _definition(line: str, language: str) -> tuple[str, bool] | None:
    """(name, whether it holds definitions itself) of what begins on this line."""
    special = _SPECIAL.get(language)
    if special:
        found = special.match(line)
        return (_named(found), False) if found else None
    if _CONTINUES.match(line):
        return None
    if found := _CONTAINER.match(line):
        return _named(found), True
    patterns = (_FUNCTION, _ARROW, _METHOD) if language in _BRACED else (_FUNCTION,)
    found = next((match for pattern in patterns if (match := pattern.match(line))), None)
    return (found["name"], False) if found else None


def _named(found: re.Match[str]) -> str:
    return f"{found['what']} {found['name'].strip()}" if "what" in found.re.groupindex else found["name"]
