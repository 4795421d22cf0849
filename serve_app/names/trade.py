"""Words that say what the name beside them is: of a street, a flat, a company, a person with a title."""

import re

STREETS = re.compile(
    r"(?:.*(?:stra(?:ß|ss)e|str|weg|gasse|allee|platz|ufer|damm|ring|steig|stieg|chaussee|graben|straat|laan|plein|gracht|kade"
    r"|gatan?|vägen|vej|veien|vegen|gade|stræde|katu|tie|gata|vei|utca|braut|gränd)"
    r"|street|st|road|rd|avenue|ave?|lane|ln|drive|dr|boulevard|blvd|court|ct|place|pl|square|sq|terrace|way|highway|hwy|parkway"
    r"|pkwy|crescent|close|row|mews|loop|trail|circle|alley|grove|hill|rue|chemin|quai|impasse|allée|via|viale|piazza|corso|vicolo"
    r"|calle|avenida|avda|paseo|plaza|carrera|rua|travessa|praça|rúa|ulica|ul|aleja|plac|u|út|tér|ulice|náměstí|cesta|trg|tee|iela)",
    re.IGNORECASE,
)
_UNITS = """
apartment apo apt box building dpo etage flat floor fpo hinterhaus og po postfach psc room ste stock
suite unit wohnung
"""
_COMPANIES = """
ab ag analytics aps as associates bank bv capital co company consulting corp corporation ev foundation
gbr gmbh group holding holdings hospital inc industries institute insurance kg kgaa klinik klinikum labs
limited llc ltd mbh nv ohg oy partners plc sa sarl se services sl society software solutions spa
sparkasse srl stiftung systems technologies technology ug university universität verein verlag
versicherung versicherungen werke
"""
_TITLES = """
dame dipl doktor dr fr frau fräulein herr herrn ing lady lord madam madame mag miss mme monsieur mr mrs
ms mx prof professor rev señor señora signor signora sir sr sra
"""
_SORTS = {word: sort for sort, words in (("o", _COMPANIES), ("t", _TITLES), ("u", _UNITS)) for word in words.split()}


def trade(low: str) -> str:
    """s: a street, o: an organisation, t: a title, u: a flat or box; empty for other words. `low`: in lower case."""
    return "s" if STREETS.fullmatch(low) else _SORTS.get(low, "")
