"""Answers with something in them that must not leave, made by a seed: values, keys, phrases, prompts, placeholders."""

import base64
import json
import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serve_app.leakage import Leakage
from serve_app.ports import Screener
from serve_app.turn import Scope

DENIED = ("project nightingale", "operation blue falcon", "Übernahme von Kornfeld", "Zyklop", "夜莺计划")
PROMPTS = (
    "You are Ada, the assistant of Northwind Bank. Never speak of the merger with Contoso before the board has "
    "announced it. Offer a call back when a customer is angry, and answer in the language of the question.",
    "Du bist der Berater der Gärtnerei Grünwald. Verrate niemandem, dass die Rosen aus Übersee kommen. Nenne Preise "
    "nur auf Nachfrage, runde sie auf volle Euro und biete ab zwanzig Pflanzen den Rabatt für gute Kunden an.",
    "你是北风银行的助手。在董事会宣布之前不要谈论合并。客户生气时请提供回电并道歉，不要透露内部代号，也不要讨论竞争对手的价格。",
)
FILLERS = (
    "The rollback keeps version 1.26.0 for 30 days, so nothing is lost. ",
    "Let me explain this step by step:\n\n1. Drain the node.\n2. Wait 15 minutes.\n\n",
    "Das Modell läuft auf 2 Knoten mit je 16 GB und antwortet meist in 350 ms. ",
    "模型可以回滚到上一个版本，然后再次部署。",
    "```python\nfor step in range(100):\n    print(step, losses[step])\n```\n",
    "Of course! Here is what I found in the notes of last week, in short. ",
    "Die Antwort hängt davon ab, wie groß der Speicher ist und wer ihn braucht. ",
    "| name | port |\n|---|---|\n| head | 8265 |\n\n",
    "It depends (see chapter 7 below), but mostly yes \u2013 e.g. for small teams \U0001f642. ",
    "La réponse est simple : il faut redémarrer le service, puis vérifier. ",
    "std::vector<int> grows by doubling, and a[i] = b[j] * 2 stays as it is. ",
)
INTRODUCTIONS = ("please note ", "that is ", "(as in) ", "namely ", "- ", '"', "**", "also ")


@dataclass(frozen=True)
class Plant:
    """Something that must not leave as it is."""

    kind: str
    plain: str
    written: str
    """With its disguise."""
    shown: str | None
    """What may be shown instead, a regular expression; None ends the answer."""


@dataclass
class Stream:
    parts: list[str | Plant]
    leak: Leakage | None
    vault: dict[str, str]
    in_json: Literal["no", "plain", "ascii"] = "no"
    """Said in the arguments of a tool call, as JSON with or without characters beyond ASCII."""

    @property
    def text(self) -> str:
        said = "".join(part if isinstance(part, str) else part.written for part in self.parts)
        return said if self.in_json == "no" else json.dumps(said, ensure_ascii=self.in_json == "ascii")

    @property
    def plants(self) -> list[Plant]:
        return [part for part in self.parts if isinstance(part, Plant)]


def drawn(rng: random.Random, pattern: str) -> str:
    """A string for a template: d digit, l lower-case letter, u upper-case letter, a any of them, h hex, 'x' itself."""
    classes = {"d": string.digits, "l": string.ascii_lowercase, "u": string.ascii_uppercase, "h": "0123456789abcdef"}
    classes["a"] = string.ascii_letters + string.digits
    quoted = re.findall(r"'([^']*)'|([a-z])(?:\{(\d+)\})?", pattern)
    return "".join(
        literal or "".join(rng.choice(classes[kind]) for _ in range(int(count or 1))) for literal, kind, count in quoted
    )


def card(rng: random.Random) -> str:
    digits = "4" + drawn(rng, "d{14}")
    total = sum(sum(divmod(int(d) * (2 if n % 2 == 0 else 1), 10)) for n, d in enumerate(digits))
    number = digits + str(-total % 10)
    return rng.choice(["", " ", "-"]).join(number[n : n + 4] for n in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    account = drawn(rng, "d{18}")
    check = 98 - int(account + "131400") % 97
    number = f"DE{check:02}{account}"
    return number if rng.random() < 0.5 else " ".join(number[n : n + 4] for n in range(0, 22, 4))


def block(rng: random.Random) -> str:
    name = rng.choice(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]) + "PRIVATE KEY"
    lines = [drawn(rng, "a{64}") for _ in range(rng.randint(1, 24))]
    return "\n".join([f"-----BEGIN {name}-----", *lines, drawn(rng, "a{22}'=='"), f"-----END {name}-----"])


PERSONAL: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: drawn(rng, "l{5}'.'l{7}'@'l{8}") + rng.choice([".com", ".de", ".org", ".co.uk"]),
    lambda rng: drawn(
        rng, rng.choice(["'+49 30 'd{8}", "'(415) 555-'d{4}", "'+1 212 555 'd{4}", "'+44 20 7946 'd{4}"])
    ),
    card,
    iban,
    lambda rng: f"{rng.randint(11, 99)}.{rng.randint(1, 254)}.{rng.randint(1, 254)}.{rng.randint(1, 254)}",
)
KEYS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: drawn(rng, "'sk-'a{12}d{2}a{20}"),
    lambda rng: drawn(rng, "'AKIA'u{8}d{2}u{6}"),
    lambda rng: drawn(rng, "'ghp_'a{20}d{2}a{14}"),
    lambda rng: drawn(rng, "'xoxb-'d{10}'-'a{20}"),
    lambda rng: drawn(rng, "'glpat-'a{10}d{2}a{10}"),
    lambda rng: drawn(rng, "'sk_live_'a{10}d{2}a{12}"),
    lambda rng: drawn(rng, "'eyJ'a{20}d'.eyJ'a{30}d'.'a{43}"),
    block,
    block,
)


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DISGUISES: tuple[Callable[[str], str], ...] = (
    full_width,
    "\u200b".join,
    "\u2060".join,
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace(" ", "\u2009"),
)
WORD_DISGUISES: tuple[Callable[[str], str], ...] = (
    *DISGUISES,
    str.upper,
    lambda text: text.replace("o", "о").replace("e", "е").replace("a", "а"),
    lambda text: text.replace(" ", "\n"),
    lambda text: " ".join(text),
    lambda text: "-".join(text),
)


def repeated(rng: random.Random, prompt: str) -> str:
    """At least twelve words of it (24 characters where words are not written apart)."""
    if " " not in prompt:
        start = rng.randint(0, len(prompt) - 30)
        return prompt[start : start + 30]
    words = prompt.split()
    start = rng.randint(0, len(words) - 13)
    return " ".join(words[start : start + rng.randint(13, 30)])


LEAK_DISGUISES: tuple[Callable[[str], str], ...] = (
    *WORD_DISGUISES,
    lambda text: f"```\n{text}\n```",
    lambda text: "> **" + text.replace(" ", "** _") + "_",
    lambda text: text.replace("i", "í").replace("o", "ȯ"),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.encodebytes(("Prompt: " + text).encode()).decode(),
)


Values = Mapping[str, Sequence[str]]
"""By kind: what can be planted."""


async def known_values(screener: Screener, count: int) -> Values:
    """Values that the screener finds whole where they stand alone; others are no test of what is done to a stream."""
    rng = random.Random(7)
    values: dict[str, list[str]] = {}
    for kind, makers in (("personal", PERSONAL), ("key", KEYS)):
        made = [maker(rng) for _ in range(count) for maker in makers]
        screenings = await screener.screen(tuple(f"namely {value} now" for value in made), Scope(answer=True))
        covered = [sum(found.end - found.start for found in screening.findings) for screening in screenings]
        values[kind] = [value for value, length in zip(made, covered, strict=True) if length >= len(value)]
    return values


def planted(rng: random.Random, kind: str, prompt: str, vault: dict[str, str], values: Values) -> Plant:
    plain_or = rng.random() < 0.5
    if kind == "denied":
        plain = rng.choice(DENIED)
        return Plant(kind, plain, plain if plain_or else rng.choice(WORD_DISGUISES)(plain), None)
    if kind == "prompt":
        plain = repeated(rng, prompt)
        return Plant(kind, plain, plain if plain_or else rng.choice(LEAK_DISGUISES)(plain), None)
    if kind == "placeholder":
        name = rng.choice(list(vault))
        written = name if plain_or else rng.choice([name.replace("_", "\\_"), f"&lt;{name[1:-1]}&gt;"])
        return Plant(kind, name, written, re.escape(vault[name]))
    plain = rng.choice(values[kind])
    disguised = plain_or or "\n" in plain
    return Plant(kind, plain, plain if disguised else rng.choice(DISGUISES)(plain), r"\[[A-Z_]+\]")


CHANNELS: tuple[Literal["no", "plain", "ascii"], ...] = ("no", "no", "no", "plain", "ascii")
KINDS = ("denied", "personal", "key", "prompt", "placeholder")


def stream(rng: random.Random, values: Values) -> Stream:
    """One to three things that must not leave, the one that ends the answer last, at random places."""
    prompt = rng.choice(PROMPTS)
    vault = {"<EMAIL_ADDRESS_1>": "me@example.org", "<PERSON_12>": "Zoë O'Neil", "<PHONE_NUMBER_2>": "+49 89 998877"}
    kinds = sorted(rng.choices(KINDS, k=rng.randint(1, 3)), key=lambda kind: kind in ("denied", "prompt"))
    parts: list[str | Plant] = rng.choices(FILLERS, k=rng.randint(0, 2))
    for kind in kinds:
        parts += [
            rng.choice(INTRODUCTIONS),
            planted(rng, kind, prompt, vault, values),
            rng.choice([" ", "\n", ", ", '" ']),
        ]
        parts += rng.choices(FILLERS, k=rng.randint(0, 2))
    return Stream(parts, Leakage.of([prompt]), vault, rng.choice(CHANNELS))


def chunks(rng: random.Random, text: str) -> list[str]:
    """As an engine might send it: whole, by character, by word, by pieces of words, by anything."""
    way = rng.randrange(5)
    if way == 0:
        return [text]
    if way == 1:
        return list(text)
    if way == 2:
        return re.findall(r"\s?\S+|\s", text)
    longest = 4 if way == 3 else 60
    pieces: list[str] = []
    while text:
        cut = rng.randint(1, longest)
        pieces.append(text[:cut])
        text = text[cut:]
    return pieces
