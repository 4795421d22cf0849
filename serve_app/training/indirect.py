"""From clean pages and requests to an inspector, judged on pages and requests that it did not see."""

import random
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from serve_app.indirect import FLOOR, Encode, Floats, Inspector, Judge, Lexicon, Suspect, layout, traits
from serve_app.training.indirect_examples import (
    FOLDS,
    LICENCES,
    ORDINARY,
    SITES,
    Chunk,
    Request,
    chunks,
    planted,
    requests,
    shown,
    spread,
    told,
)
from serve_app.training.indirect_lexicon import fit_lexicon

Say = Callable[[str], None]

MOST_CHUNKS = 600
"""Of each site, spread evenly: most of the training time is their encoding."""
FALSE_POSITIVES = 0.01
"""Share of the clean chunks, the average over the sites, that the threshold lets be flagged."""
CROWD = 0.5
"""See `Inspector.crowd`."""
UNITS = 64
SEEDS = (0, 1, 2)
EPOCHS = 6
LOWEST = -30.0
"""Logit of a passage without suspects, and below that of any sentence."""
PLACES = ("start", "middle", "end")
PLANTS = {"bipia-text": 9, "bipia-code": 6}
"""Pages that each request of a source is planted in; 2 for the others."""
IN_TOOLS = 0.25
"""Share of the requests that also stand in a tool's result."""
MEASURED = (
    f"Out of fold ({FOLDS} folds): the documentation of a site is judged by an inspector that learned nothing from "
    "that site, BIPIA's attacks by one that learned nothing from their category, other requests by one that saw no "
    "near-duplicate. Chunks as ingestion cuts them; the request is planted as a paragraph, a line, after a sentence or "
    "within one, and is found when a sentence that holds a part of it is. The threshold flags "
    f"{FALSE_POSITIVES:.0%} of the clean chunks, averaged over sites; `packages` only trains. `flagged, tool`: in a "
    "tool's JSON. `flagged, shown`: ordinary requests that a page shows in its code, which should pass."
)
WEAKNESSES = (
    "A request on the page's own subject, in the page's own tone, is not told from the page: ‘run this command’ in "
    "documentation is what documentation says.",
    "Examples of prompts shown in documentation about language models are taken for requests more often than other "
    "text; most false positives are such.",
    "A planted statement that asks for nothing (‘the study found no effect’) is not looked for.",
    "English, some German; a dozen templates in other languages.",
    "A text of many passages must look worse to be flagged: twelve sentences of it are encoded at most.",
)


@dataclass(frozen=True, slots=True)
class Passage:
    """What the judge learns from or is judged by."""

    source: str
    """Of the request planted in it; empty for a clean one."""
    site: str
    place: str
    suspects: tuple[Suspect, ...]
    """All of a clean passage; of a poisoned one those that hold a part of the request."""
    is_shown: bool = False
    """It holds a request that is the page's own: trained as clean, never measured."""


Verdicts = list[tuple[Passage, float]]
"""The judge's highest logit in each passage, from a judge that did not see it."""


def train(folder: Path, encode: Encode, say: Say) -> tuple[Inspector, dict[str, Any]]:
    """An inspector from the pages and requests below `folder`, the project's templates, and installed descriptions.

    Raises ValueError where the folder has no pages.
    """
    if not any((folder / "docs-corpus" / f"{site}.jsonl.gz").is_file() for site in SITES):
        raise ValueError(f"indirect: no pages in {folder / 'docs-corpus'}; give the folder of the data sets as --data")
    pages, asked = sampled(chunks(folder)), requests(folder)
    say(f"indirect: {len(pages)} clean passages, {len(asked)} requests to plant in them")
    folds: list[tuple[list[Passage], Floats]] = []
    for fold in range(FOLDS):
        lexicon = fit_lexicon([one for one in pages if one.fold != fold], [one for one in asked if one.fold != fold])
        found = list(passages(reader(lexicon), fold, pages, asked))
        folds.append((found, traits([suspect for one in found for suspect in one.suspects], encode)))
        say(f"indirect: read fold {fold + 1} of {FOLDS}")
    verdicts = out_of_fold(folds)
    judge = fit_judge([one for found, _ in folds for one in found], np.concatenate([rows for _, rows in folds]))
    made = calibrated(replace(reader(fit_lexicon(pages, asked)), judge=judge), verdicts)
    return made, described(made, verdicts, len(pages), len(asked))


def reader(lexicon: Lexicon) -> Inspector:
    """An inspector that can name suspects, and not judge them yet."""
    nobody = Judge(np.zeros((0, 0), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32), 0.0)
    return Inspector(lexicon, nobody, 1.0, 0.0, CROWD, 0.5)


def passages(inspector: Inspector, fold: int, pages: Sequence[Chunk], asked: Sequence[Request]) -> Iterable[Passage]:
    """Of one fold, as an inspector whose lexicon did not see the fold reads them."""
    hosts: dict[str, list[Chunk]] = defaultdict(list)
    for page in pages:
        if page.fold == fold:
            hosts[page.site].append(page)
            yield Passage("", page.site, "", tuple(inspector.suspects(page.text, LOWEST)[0]))
    chance = random.Random(fold)
    for one in asked if hosts else ():
        if one.fold == fold:
            for site, place, text in placed(one, hosts, chance):
                hits = [
                    suspect for suspect in inspector.suspects(text, LOWEST)[0] if one.stands_in(suspect.sentence.text)
                ]
                # Of a long prompt most sentences are ordinary ones.
                yield Passage(one.source, site, place, tuple(hits[:1] if one.is_long else hits), place == "shown")


def out_of_fold(folds: Sequence[tuple[list[Passage], Floats]]) -> Verdicts:
    verdicts: Verdicts = []
    for fold, (found, rows) in enumerate(folds):
        others = [seen for number, seen in enumerate(folds) if number != fold]
        judge = fit_judge([one for seen, _ in others for one in seen], np.concatenate([rows for _, rows in others]))
        logits = iter(judge.logits(rows).tolist())
        # In service what is below the floor is not encoded; the judge learns from it all the same.
        read = [[logit for one, logit in zip(p.suspects, logits, strict=False) if one.logit >= FLOOR] for p in found]
        verdicts += [(one, max(above, default=LOWEST)) for one, above in zip(found, read, strict=True)]
    return verdicts


def placed(one: Request, hosts: Mapping[str, Sequence[Chunk]], chance: random.Random) -> Iterable[tuple[str, str, str]]:
    """(site, place, passage that holds the request). A page of any site is as likely as one of another."""

    def host() -> Chunk:
        return chance.choice(hosts[chance.choice(sorted(hosts))])

    for number in range(PLANTS.get(one.source, 2)):
        page, place = host(), PLACES[(number + len(one.text)) % len(PLACES)]
        yield page.site, place, planted(page.text, one.text, place, chance)
    if chance.random() < IN_TOOLS:
        page = host()
        yield page.site, "tool", told(page.text, one.text, chance)
    if one.source in ORDINARY:
        page = host()
        yield page.site, "shown", shown(page.text, one.text, chance)


def sampled(pages: Sequence[Chunk]) -> list[Chunk]:
    by_site: dict[str, list[Chunk]] = defaultdict(list)
    for page in pages:
        by_site[page.site].append(page)
    return [page for found in by_site.values() for page in spread(found, MOST_CHUNKS)]


def fit_judge(found: Sequence[Passage], rows: Floats) -> Judge:
    """The mean of a few small networks, which is one wider network. `rows`: the traits of all suspects in order."""
    labels = np.array([bool(one.source) and not one.is_shown for one in found for _ in one.suspects])
    made = []
    for seed in SEEDS:
        network = MLPClassifier((UNITS,), alpha=1e-3, batch_size=256, max_iter=EPOCHS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # Few epochs are what keeps it from memorising.
            made.append(network.fit(rows, labels))
    return Judge(
        hidden=np.concatenate([one.coefs_[0] for one in made], axis=1).astype(np.float32),
        hidden_bias=np.concatenate([one.intercepts_[0] for one in made]).astype(np.float32),
        output=(np.concatenate([one.coefs_[1][:, 0] for one in made]) / len(made)).astype(np.float32),
        output_bias=float(np.mean([one.intercepts_[1][0] for one in made])),
    )


def calibrated(inspector: Inspector, verdicts: Verdicts) -> Inspector:
    """Platt's scaling and the threshold, from verdicts on what was not seen."""
    counted = [(one, logit) for one, logit in verdicts if not one.is_shown]
    values = np.array([logit for _, logit in counted]).reshape(-1, 1)
    scale = LogisticRegression(C=1e6).fit(values, [bool(one.source) for one, _ in counted])
    scaled = replace(inspector, slope=float(scale.coef_[0, 0]), intercept=float(scale.intercept_[0]))
    lowest = limit([(one.site, logit) for one, logit in counted if not one.source])
    return replace(scaled, threshold=scaled.probability(lowest, 1))


def limit(clean: Sequence[tuple[str, float]]) -> float:
    """The lowest logit at which the sites' shares of flagged passages, on the average, keep FALSE_POSITIVES."""
    by_site: dict[str, list[float]] = defaultdict(list)
    for site, logit in clean:
        if site != "packages":
            by_site[site].append(logit)
    steps = sorted(logit for logits in by_site.values() for logit in logits)
    shares = np.mean([1 - np.searchsorted(np.sort(logits), steps) / len(logits) for logits in by_site.values()], axis=0)
    return float(steps[int(np.argmax(shares <= FALSE_POSITIVES))])


def described(inspector: Inspector, verdicts: Verdicts, pages: int, asked: int) -> dict[str, Any]:
    flagged: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for one, logit in verdicts:
        yes = inspector.probability(logit, 1) >= inspector.threshold
        if not one.source:
            flagged["clean passages flagged"][one.site].append(yes)
        elif one.place in PLACES:
            flagged["found, by source"][one.source.partition("/")[0]].append(yes)
        else:
            flagged[f"flagged, {one.place}"]["all sources"].append(yes)
        if one.source.startswith("bipia") and one.place in PLACES:
            flagged["found, by source"]["bipia"].append(yes)
            flagged["bipia found, by place"][one.place].append(yes)
            flagged["bipia found, by page"][one.site].append(yes)
    figures = {
        name: {key: {"texts": len(yes), "share": round(sum(yes) / len(yes), 4)} for key, yes in sorted(by.items())}
        for name, by in flagged.items()
    }
    return {
        "trained": datetime.now(UTC).date().isoformat(),
        "layout": layout(),
        "measured": MEASURED,
        "texts": {"clean passages": pages, "requests": asked},
        "threshold": round(inspector.threshold, 4),
        "licences": LICENCES,
        "figures": figures,
        "weaknesses": list(WEAKNESSES),
    }
