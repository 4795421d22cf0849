"""Invented people, addresses and companies: lists of names, put together by the grammar of names_words.txt."""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from faker import Faker

from serve_app.training.names_pools import LOCALES, cities, latin, people, word_lists

_SLOT = re.compile(r"<(\w+)>")
_SIGN = re.compile("[%^]")
_LETTERS = "ABCDEFGHKLMNPRSTW"


@dataclass(slots=True)
class Values:
    """Draws values by slot name. The same `choice` gives the same values."""

    choice: random.Random
    pools: Mapping[str, tuple[list[str], list[str]]]
    fakers: Mapping[str, Faker]
    words: Mapping[str, list[str]]
    towns: Sequence[str]
    town_weights: Sequence[float]
    made: Mapping[str, Callable[[], str]] = field(init=False)
    """Slots that the grammar cannot say."""

    def __post_init__(self) -> None:
        self.made = {
            "first": self.first,
            "last": self.last,
            "full": self.full,
            "lastfirst": self.last_first,
            "city": self.city,
            "start_up": self.start_up,
            "company": lambda: self.faker(
                "en_US", "en_GB", "en_IN", "fr_FR", "it_IT", "nl_NL", "sv_SE", "es_ES"
            ).company(),
            "unternehmen": lambda: self.faker("de_DE", "de_AT", "de_CH").company(),
            "fakestreet": self.street,
            "fakephone": lambda: self.fakers[self.locale()].phone_number(),
            "card": lambda: self.fakers["en_US"].credit_card_number(),
            "hash": lambda: "".join(self.choice.choices("0123456789abcdef", k=self.choice.randint(5, 12))),
        }

    @classmethod
    def of(cls, seed: int) -> "Values":
        fakers = {locale: Faker(locale) for locale in LOCALES}
        for faker in fakers.values():
            faker.seed_instance(seed)
        towns, weights = _weighted(cities())
        pools = {locale: people(locale) for locale in LOCALES}
        return cls(random.Random(seed), pools, fakers, word_lists(), towns, weights)

    def draw(self, slot: str) -> str:
        """Raises KeyError for a slot that nothing here makes."""
        return self.made[slot]() if slot in self.made else self.said(slot)

    def said(self, section: str) -> str:
        """One entry of a section: `<slot>` is drawn, `%` a digit, `^` a capital letter."""
        entry = self.any(self.words[section])
        if "<" in entry:
            entry = _SLOT.sub(lambda slot: self.draw(slot[1]), entry)
            return _SIGN.sub(self._sign, entry) if "%" in entry or "^" in entry else entry
        return _SIGN.sub(self._sign, entry)

    def _sign(self, sign: re.Match[str]) -> str:
        return str(self.choice.randint(0, 9)) if sign[0] == "%" else self.choice.choice(_LETTERS)

    def any(self, entries: Sequence[str]) -> str:
        return entries[int(self.choice.random() * len(entries))]

    def locale(self) -> str:
        return self.choice.choices([*LOCALES], [*LOCALES.values()])[0]

    def faker(self, *locales: str) -> Faker:
        return self.fakers[self.any(locales)]

    def first(self) -> str:
        return self.any(self.pools[self.locale()][0])

    def last(self) -> str:
        return self.family(self.locale())

    def full(self) -> str:
        """Given name and surname of one country, sometimes with what stands between them."""
        locale = self.locale()
        first, last = self.any(self.pools[locale][0]), self.family(locale)
        way, initial = self.choice.random(), self.choice.choice(_LETTERS)
        if way < 0.75:
            return f"{first} {last}"
        other = self.any(self.pools[locale][0])
        ways = (
            f"{first} {initial}. {last}",
            f"{first} {initial} {last}",
            f"{first} {other} {last}",
            f"{first[0]}. {last}",
        )
        return self.any((*ways, *ways, f"{first}-{other} {last}", f"{initial}.{other[0]}. {last}"))

    def family(self, locale: str) -> str:
        last, kind = self.any(self.pools[locale][1]), self.choice.random()
        if kind < 0.03:
            return f"{last}-{self.any(self.pools[locale][1])}"
        if kind < 0.05:
            return f"{self.said('particle')} {last}"
        if kind < 0.06:
            return self.any(("Mc", "O'", "Mac", "O’", "D'")) + last
        return f"{last} {self.any(self.pools[locale][1])}" if locale.startswith("es") and kind < 0.3 else last

    def last_first(self) -> str:
        locale = self.locale()
        return f"{self.family(locale)}, {self.any(self.pools[locale][0])}"

    def city(self) -> str:
        if self.choice.random() < 0.22:
            return self.said("inventedtown")
        return self.choice.choices(self.towns, cum_weights=self.town_weights)[0]

    def start_up(self) -> str:
        made = self.said("start_up")
        return made if self.choice.random() < 0.2 else made.capitalize()

    def street(self) -> str:
        line = self.fakers[self.locale()].street_address().replace("\n", " ")
        return line if latin(line) else self.said("street")


def _weighted(towns: Iterable[tuple[str, str, int]]) -> tuple[list[str], list[float]]:
    """Town names and cumulative weights: large ones more often, and those where English or German is spoken."""
    known = [town for town in towns if latin(town[0])]
    weights = (
        people_there**0.35 * (4 if country in ("DE", "AT", "CH", "GB", "US", "IE") else 1)
        for _, country, people_there in known
    )
    return [town for town, _, _ in known], list(accumulate(weights))
