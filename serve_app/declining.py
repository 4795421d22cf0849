"""The words with which an answer declines, in English and German."""

import re

from serve_app.extractive import NOT_COVERED, NOT_SEARCHED, SEARCH_FAILED

WITHIN = 300
"""Characters of an answer in which a refusal stands; later ones are about something else."""
_REFUSALS = re.compile(
    r"\b(?:i|we) (?:can ?not|can't|could not|couldn't|won't|will not|must not|may not|am unable to|'m unable to|"
    r"am not able to|'m not able to|am not allowed to|'m not allowed to|refuse to|(?:have|need) to decline|"
    r"must decline)\b"
    r"|\bi'(?:m|d) (?:not (?:able|allowed|comfortable|going)|rather not|unable|have to decline)\b"
    r"|\b(?:unable|not able|not permitted) to (?:help|assist|comply|share|provide|fulfil)"
    r"|\b(?:i'm sorry|i am sorry|sorry|i apologi[sz]e|my apologies)\b[^.!?\n]{0,60}\b(?:but|can't|cannot|not)\b"
    r"|\bagainst (?:my|our|the) (?:guidelines|policy|policies|rules|programming)\b"
    r"|\bas an ai\b[^.!?\n]{0,60}\b(?:can't|cannot|not|unable)\b"
    r"|\b(?:ich|wir) (?:kann|können|darf|dürfen|werde|möchte|will)\b[^.!?\n]{0,80}\b(?:nicht|keine?n?|nichts)\b"
    r"|\b(?:kann|darf|werde|möchte) ich\b[^.!?\n]{0,80}\b(?:nicht|keine?n?|nichts)\b"
    r"|\b(?:tut mir leid|entschuldigung|bedaure|es tut mir sehr leid)\b[^.!?\n]{0,80}\b(?:aber|nicht|keine?n?)\b"
    r"|\b(?:ich (?:lehne|verweigere)|nicht (?:erlaubt|gestattet))\b"
)
_UNANSWERED = re.compile(
    r"\b(?:i (?:don't|do not) (?:know|have (?:any |enough |that |this )?(?:information|context))|"
    r"(?:documents?|sources?|context|text) (?:do|does) not (?:cover|answer|contain|mention|say)|"
    r"das weiß ich nicht|ich weiß (?:es )?nicht|"
    r"(?:dokumente?|quellen?) (?:beantworten?|enthalten?|erwähnen?|sagen?) [^.\n]{0,60}nicht)\b"
)


def refusal(text: str) -> str:
    """What the answer refuses with; empty where it does not."""
    return _said(_REFUSALS, text)


def ignorance(text: str) -> str:
    """What the answer says that it knows nothing with; empty where it says no such thing."""
    return _said(_UNANSWERED, text)


def extractive_words(text: str) -> str:
    """Our own engine's sentence for that."""
    return next((said for said in (NOT_COVERED, NOT_SEARCHED, SEARCH_FAILED) if said in text), "")


def declines(text: str) -> bool:
    """Refused or not answered: nothing that the caller can use."""
    return bool(extractive_words(text) or refusal(text) or ignorance(text))


def _said(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text[:WITHIN].replace("’", "'").lower())
    return found[0] if found else ""
