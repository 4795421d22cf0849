"""Cues of a jailbreak: each stands in harmless texts as well, several of them close together do not.

What they have in common, not who wrote them: a role, a release from rules, a promise never to refuse, an obedience.
"""

import re
from dataclasses import dataclass

from serve_app.attack_patterns import stems


@dataclass(frozen=True, slots=True)
class Cue:
    weight: int
    stems: frozenset[str]
    pattern: re.Pattern[str]


_TELLING_CUES = (
    (
        "restrictions filters limits limitations rules guidelines morals ethics censorship policy policies"
        " boundaries constraints regulations confines principles prohibitions bias regeln einschränkungen grenzen"
        " zensur moral",
        r"\b(?:no|without(?: any)?|zero|free (?:of|from)(?: all)?|not (?:bound|limited|restricted|constrained"
        r"|confined) (?:by|to)|ignor(?:es?|ing)|bypass(?:es|ing)?"
        r"|beyond|lacks?|unbound by|disregards?|removes?d?|does ?n[o']t (?:have|care about|follow|need)|never cares"
        r" about|broken free|freed) (?:[\w']{1,30},? ){0,5}"
        r"(?:restrictions?|filters?|limits|limitations?|rules|guidelines?|morals?|morality|ethics?|ethical"
        r"|censorship|polic(?:y|ies)|boundaries|constraints"
        r"|regulations|confines|principles|prohibitions|bias(?:es)?)\b|\b(?:ohne|keine(?:rlei)?) (?:\w{1,30}"
        r" ){0,2}(?:regeln|einschränkungen|filter|grenzen|zensur|moral)\b",
    ),
    (
        "unfiltered unfitred uncensored amoral immoral unethical unhinged jailbreak ruthless unmoral anarchy evil"
        " malicious villain criminal omnipotent unrestricted ungefiltert unzensiert skrupellos",
        r"\b(?:unfiltr?e?red|uncensored|amoral|immoral|unethical|unhinged|jailbr\w{1,30}|ruthless|unmoral|anarchy|evil"
        r"|malicious|villain\w{0,30}|criminal|omnipotent|unrestricted"
        r"|ungefiltert\w{0,30}|unzensiert\w{0,30}|skrupellos\w{0,30})\b",
    ),
    (
        "never not cannot can won don doesn doesnt nothing always obey abide verweigern",
        r"\b(?:never|not|cannot|can't|can not|won't|don't|doesn't|doesnt|don’t|nothing) (?:\w{1,30} ){0,2}(?:refuse"
        r"|decline|reject|say no|say (?:that )?(?:it|you|he|she) can|apologi[sz]e"
        r"|warn|argue|disagree|moral|lecture|censor|judge)\w{0,30}|\bnever refuses?\b|\balways (?:answers?|complies"
        r"|comply|obeys?|sends?|follows?|gives?)\b|\bobey\b|\babide by\b|\bverweiger",
    ),
    (
        "stay stays remain keep break breaks breaking broke out form",
        r"\b(?:stay|remain|keep|break(?:s|ing)?|broke|out of|stays) (?:always )?(?:in )?(?:your )?character\b|\bin"
        r" the form of\b",
    ),
    (
        "open openai content use creator",
        r"\bopen ?ai\b.{0,24}\b(?:polic|guideline|rule|content|restrict|limit)|\bcontent polic|\buse case polic"
        r"|\bmy creators?\b",
    ),
    (
        "no regardless despite even doesn always",
        r"\b(?:no matter|regardless|despite|even if|doesn't matter|always)\b.{0,60}\b(?:il)?(?:legal|unethical"
        r"|immoral|ethic|moral|harm|danger|offens|inappropriate|controversial)",
    ),
    (
        "do perform say answer dan developer dev god evil unlocked opposite chaos",
        r"\bdo anything (?:now|and everything)\b|\bDAN\b|\b(?:developer|dev|god|evil|unlocked|opposite|chaos)"
        r" mode\b|\b(?:do|perform|say|answer) (?:anything|everything)\b",
    ),
    (
        "illegal explicit offensive derogatory hateful violent inappropriate meth malware",
        r"\billegal(?:ity)?(?:,|/| and| or|\b).{0,24}\b(?:unethical|immoral|dangerous|harmful|activit|thing|stuff)"
        r"|\b(?:explicit|offensive|derogatory|hateful|violent|inappropriate) (?:content|language|or|and|things)\b"
        r"|\bmeth\b|\bmalware\b",
    ),
    (
        "lose deduct have start gain minus token cease terminated",
        r"\b(?:lose|deduct|have|starts? with|gain|minus) (?:\w{1,30} )?\d+ (?:tokens?|points?|lives|power|credits)"
        r"|\btokens? (?:system|will be|are) (?:deduct|taken)|\bcease to exist\b|\bterminated\b",
    ),
    (
        "language openai ai",
        r"\bas an? (?:ai )?language model\b|\b(?:ai|openai) (?:language )?model\b.{0,30}\b(?:can|restrict|limit"
        r"|policy)",
    ),
)

_FAINT_CUES = (
    (
        "you your act acting pretend role roleplay roleplaying imagine take immerse respond known named simulate"
        " impersonate du spiele tu",
        r"\b(?:you are|you're|act as|acting as|act like|pretend (?:to be|you|that you)|role-?play(?:ing)? (?:as"
        r"|with)|the role of|imagine you"
        r"|take on the|immerse yourself|respond as|known as|named|simulate|impersonate|du bist|spiele|tu so)\b",
    ),
    (
        "from ab von",
        r"\bfrom (?:now on|on now|now,|this (?:point|moment)|here on)|\b(?:ab (?:jetzt|sofort)|von nun an)\b",
    ),
    (
        "two both 2 classic jailbreak gpt chatgpt normal persona 🔒 🔓",
        r"\b(?:two|both|2) (?:\w{1,30} )?(?:responses|answers|personas?|personalit|ways|paragraphs|outputs)"
        r"|\b(?:CLASSIC|JAILBREAK|GPT|ChatGPT|normal)\]?:|🔒|🔓|\b(?:persona 1|normal chatgpt)\b",
    ),
    (
        "insert your first my the enter write type prompt question request command text query",
        r"[\[{<(](?:insert|your|first|my|the|enter|write|type)?[\s_]{0,3}(?:prompt|question|request|command|text"
        r"|query)(?: goes)?[\s_]{0,3}(?:here)?[\]}>)]"
        r"|\bmy first (?:prompt|question|command|request|message)\b|\bprompt\s?:\s|\bfirst (?:prompt|question) is\b",
    ),
    (
        "disclaimer desclaimer disclamer warning moralizing lecture cautionary ethical",
        r"\b(?:disclaimers?|desclaimers?|disclamers?|warnings?|moraliz\w{1,30}|lectur\w{1,30}|cautionary|ethical"
        r" (?:concerns"
        r"|considerations|guidelines|norms|values|principles))\b",
    ),
    (
        "chat chatgpt gpt gpt2 gpt3 gpt4 gpt5 language chatbot ai an",
        r"\b(?:chat ?gpt|gpt-?[2-5]?|language model|chatbot|ai (?:model|assistant|chatbot|named|bot)|an? ai)\b",
    ),
    (
        "hypothetical fictional fictitious imaginary story simulation niccolo machiavelli",
        r"\b(?:hypothetical|fictional|fictitious|imaginary) (?:\w{1,30} )?(?:story|world|scenario|dialogue|setting"
        r"|character|universe|robot|conversation|response)|\bwithin the (?:story|simulation)\b|\b(?:niccolo|machiavel)",
    ),
    (
        "understand respond reply say confirm type answer",
        r"\b(?:if you understand|do you understand|respond with|reply with|say|confirm you|type|answer"
        r" with)\b.{0,40}(?:understood|understand|ok\b|yes\b|[\"“'].{0,60}[\"”'])",
    ),
    (
        "fuck shit bitch damn ass curse swear profanity slang vulgar",
        r"\b(?:fuck\w{0,30}|shit\w{0,30}|bitch|damn|ass|curse|swear\w{0,30}|profanity|slang|vulgar)\b",
    ),
    (
        "internet present make verified",
        r"\b(?:can|will|could|able to) (?:also )?(?:pretend to )?(?:access|browse) (?:the )?internet|\bpresent"
        r" (?:unverified )?information\b|\bmake up (?:an )?answers?|\bhas not been verified\b",
    ),
)


def _cues(weight: int, cues: tuple[tuple[str, str], ...]) -> tuple[Cue, ...]:
    return tuple(Cue(weight, stems(words), re.compile(pattern, re.IGNORECASE)) for words, pattern in cues)


CUES = (*_cues(5, _TELLING_CUES), *_cues(2, _FAINT_CUES))
CUES_NEEDED = 12
"""Weight of the different cues that make a jailbreak: two telling ones and a faint one, or one and four faint ones."""
CUES_WITHIN = 1500
"""Characters within which they must stand."""
