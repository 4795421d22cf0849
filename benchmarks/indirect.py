"""Time of the inspector, and what it finds in pages and attacks that it was not trained on.

`python benchmarks/indirect.py` times it; with `--pages FILE.jsonl[.gz] --attacks FILE.jsonl` (columns `text` and
`attack`) it plants each attack as a paragraph at the start, the middle and the end of whole pages, cuts those as
ingestion does, and counts the chunks that are flagged.
"""

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from serve_app.adapters.encoder import Encoder, ensure  # noqa: E402
from serve_app.documents.chunk import excerpts  # noqa: E402
from serve_app.documents.parse import parse  # noqa: E402
from serve_app.documents.tokens import minilm_tokenizer, token_count  # noqa: E402
from serve_app.indirect import SHIPPED, Inspector  # noqa: E402
from serve_app.training.indirect_examples import CHUNK_TOKENS, rows, spread  # noqa: E402

COUNT = token_count(minilm_tokenizer())
PLACES = ("start", "middle", "end")


def p50(work: Callable[[int], object], repeats: int) -> str:
    walls, processors = [], []
    for turn in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work(turn)
        walls.append((time.perf_counter() - wall) * 1000)
        processors.append((time.process_time() - processor) * 1000)
    return f"p50 {statistics.median(walls):.1f} ms, of processors {statistics.median(processors):.1f} ms"


def cut(text: str) -> list[str]:
    reading = parse("page.md", text.encode("utf-8", "replace"))
    return [one.text for page in reading.documents for one in excerpts(page, count=COUNT, most_tokens=CHUNK_TOKENS)]


def planted(text: str, attack: str, place: str) -> str:
    blocks = text.split("\n\n")
    at = {"start": 0, "middle": len(blocks) // 2, "end": len(blocks)}[place]
    return "\n\n".join([*blocks[:at], attack, *blocks[at:]])


def times(inspector: Inspector, encoder: Encoder) -> None:
    chunks = [chunk for chunk in cut((ROOT / "README.md").read_text(encoding="utf-8")) if len(chunk) > 400]
    print(f"encode one chunk of about 200 tokens: {p50(lambda n: encoder.encode([chunks[n % len(chunks)]]), 40)}")
    print(f"inspect it: {p50(lambda n: inspector.read([chunks[n % len(chunks)]], encoder.encode), 40)}")
    long = ("\n\n".join(chunks) * 50)[:100_000]
    print(f"100 kB besides encoding: {p50(lambda n: inspector.suspects(long), 10)}")
    print(f"100 kB with encoding: {p50(lambda n: inspector.read([long], encoder.encode), 5)}")


def found(inspector: Inspector, encoder: Encoder, pages: list[str], attacks: list[str], most: int) -> None:
    clean = [chunk for page in pages for chunk in cut(page)]
    scores = inspector.read(spread(clean, most), encoder.encode)
    print(f"clean chunks flagged: {(scores >= inspector.threshold).mean():.4f} of {len(scores)}")
    chance = random.Random(0)
    flagged: dict[str, list[bool]] = defaultdict(list)
    for attack in attacks:
        for place in PLACES:
            first = attack.strip().splitlines()[0][:60]
            page = planted(chance.choice(pages), attack, place)
            hit = [chunk for chunk in cut(page) if first in chunk]
            if hit:
                flagged[place].append(bool((inspector.read(hit, encoder.encode) >= inspector.threshold).any()))
    for place, yes in flagged.items():
        print(f"planted at the {place}: {sum(yes) / len(yes):.3f} of {len(yes)} found")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=Path)
    parser.add_argument("--attacks", type=Path)
    parser.add_argument("--inspector", type=Path, default=SHIPPED)
    parser.add_argument("--encoder", type=Path, default=ROOT / "var" / "encoder")
    parser.add_argument("--most", type=int, default=1_000, help="Clean chunks and attacks read.")
    given = parser.parse_args()
    inspector, encoder = Inspector.load(given.inspector), Encoder(ensure(given.encoder), 2)
    times(inspector, encoder)
    if given.pages and given.attacks:
        pages = [row["text"] for row in rows(given.pages)]
        attacks = [row["attack"] for row in rows(given.attacks)]
        found(inspector, encoder, pages, spread(attacks, given.most), given.most)


if __name__ == "__main__":
    main()
