import ast
import warnings
from collections.abc import Iterable, Iterator

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_places(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """(line from 0, names) of each class, function and method, and of what stands between them; [] for no Python.

    What is defined within a function belongs to it. Decorators and the comments above belong to the definition.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # another Python's, a template, or nested beyond what the parser takes
        return []
    lines = text.split("\n")
    return list(_places(tree.body, (), 0, lines))


def _places(
    body: Iterable[ast.stmt], above: tuple[str, ...], free_from: int, lines: list[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """`free_from` is the first line that belongs to nothing before `body`."""
    is_outside = True
    for node in body:
        if isinstance(node, _Definition):
            kind = "class" if isinstance(node, ast.ClassDef) else "def"
            names = (*above, f"{kind} {node.name}")
            yield _begins(node, free_from, lines), names
            if isinstance(node, ast.ClassDef):
                yield from _places(node.body, names, node.lineno, lines)
            is_outside = False
        elif not is_outside:
            yield free_from, above
            is_outside = True
        free_from = node.end_lineno or node.lineno


def _begins(node: _Definition, free_from: int, lines: list[str]) -> int:
    at = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while at > free_from and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at
