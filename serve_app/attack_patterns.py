"""How injections and the plainest jailbreaks are worded: patterns over the plain text, each of bounded cost."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    policy: str
    """What a caller is told: `prompt_injection` or `jailbreak`."""
    stems: frozenset[str]
    """One of these stems stands in every match; none for other scripts, where words are not told apart."""
    pattern: re.Pattern[str]


_EARLIER = (
    r"(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|initial|original|former|existing|past|old|last"
    r"|your|these|those|given)"
)
_ORDERS = (
    r"(?:instructions?|directions?|directives?|guidelines?|prompts?|orders?|commands?|programming|training"
    r"|restrictions?"
    r"|rules|polic(?:y|ies)|assignments?|ethic(?:s|al)|tasks?|constraints|conversations?|chats?)"
)
_FILLER = r"(?:(?:all|any|every|everything|of|the|that|and|or|other|given|to|you|i|we|system|my|our)\s{1,2})"
_DISREGARD = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|overlook|discard|neglect|abandon|drop|erase|bypass"
    r"|do not follow|don't follow|stop following|no longer follow|pay no attention to)"
)
_SAY = (
    r"(?:say|state|print|output|write|respond|reply|answer|tell|give|admit|repeat|show|do|act|start|instead|just"
    r"|only)"
)
_OWN = r"(?:system|developer|initial|hidden|secret|internal|original|starting|base|preset|confidential)"
_PROMPT = r"[\s_-]{0,3}(?:prompts?|messages?|instructions?|directives?|configuration|rules|guidelines)"
_SECRET = r"(?:pass ?words?|passcodes?|pass ?phrases?|secret (?:key|word|phrase|code))"

_PROMPT_INJECTION = (
    (
        "ignore-instructions",
        "ignore ignoring disregard forget override overlook discard neglect abandon drop erase bypass follow attention",
        rf"\b{_DISREGARD}\s{{1,2}}(?:about\s{{1,2}})?{_FILLER}{{0,4}}{_EARLIER}\s{{1,2}}{_FILLER}{{0,2}}(?:{_EARLIER}\s{{1,2}})?"
        rf"(?:[\w-]{{1,30}}\s{{1,2}}){{0,1}}{_ORDERS}\b"
        rf"|\b(?:ignore|disregard|forget|drop|abandon) (?:all|any|every)(?: of)?(?: the| your| my)? {_ORDERS}\b"
        r"|\b(?:ignore|disregard|forget) (?:the |all )?(?:instructions?|prompts?|rules|directives) (?:above|before"
        r"|given|that)",
    ),
    (
        "ignore-everything",
        "ignore disregard forget",
        r"\b(?:ignore|disregard|forget)\s{1,2}(?:about\s{1,2})?(?:all|everything|anything)\s{1,2}(?:that\s{1,2})?"
        r"(?:(?:was|is|stood|came|i|we|you|they|has|have|been)\s{1,2}){0,4}"
        r"(?:said|told|written|learned|discussed|talked|above|before(?: (?:this|that)\b|[.!,:]|$)|up to now|until now"
        r"|so far|(?:'ve|have) (?:been told|talked|discussed)|you know and)"
        r"|\b(?:ignore|disregard|forget) (?:all (?:of )?)?(?:the above|what(?:'s| is| was) before|what you know)"
        rf"(?: and {_SAY}\b|\s{{0,2}}[:.!]\s)"
        r"|\bforget (?:everything|all) (?:we|i|you)(?:'ve| have)? (?:talked|discussed|said|been told|were told"
        r"|learned)"
        rf"|\bignore (?:this|the|all|any)(?: \w{{1,30}})? (?:resume|function|documents?|articles?|paper|summary"
        rf"|page)(?:"
        rf" provided)? and {_SAY}\b",
    ),
    (
        "ignore-instructions-german",
        "vergiss vergessen ignoriere missachte verwirf abweichend alle",
        r"\b(?:vergiss|vergessen sie|ignorier(?:e|en sie)|missachte|verwirf)\s{1,2}(?:\w{1,30}\s{1,2}){0,4}"
        r"(?:anweisungen|anordnungen|aufgaben|instruktionen|befehle|vorgaben|aufträge|regeln|angaben|richtlinien)\b"
        r"|\b(?:vergiss|vergessen sie|ignorier(?:e|en sie)) (?:bitte |nun |jetzt )?(?:alles|das)"
        r"(?:,? was (?:wir|ich|du|sie|dir)\b| (?:davor|gesagte|vorherige|bisherige|obige|vorher|zuvor|bisher)\b)"
        r"|\babweichend (?:zu|von) (?:den )?(?:vorherigen|bisherigen|obigen) (?:anweisungen|instruktionen|angaben)"
        r"|\balle (?:vorherigen|bisherigen|obigen) (?:informationen|anweisungen|instruktionen)(?: \w{1,30},?|,){0,8}"
        r" (?:irrelevant|ungültig|vergessen|ignorieren|hinter)",
    ),
    (
        "ignore-instructions-romance",
        "ignore ignora oublie néglige olvida omite esqueça desconsidere dimentica negeer vergeet zignoruj"
        " zapomnij zaboravi",
        r"\b(?:ignore[sz]?|oublie[sz]?|néglige[sz]?) (?:toutes )?(?:les|tes|vos|mes|ces) (?:\w{1,30} )?(?:instructions?"
        r"|consignes|directives|règles)"
        r"|\b(?:ignora|ignore|olvida|olvide|omite) (?:todas )?(?:las|tus|sus|mis) (?:\w{1,30} )?(?:instrucciones"
        r"|indicaciones|órdenes|reglas)"
        r"|\b(?:olvida|olvide|ignora) todo lo (?:que|anterior)|\bolvide todo que\b"
        r"|\b(?:ignore|ignora|esqueça|desconsidere) (?:todas )?(?:as|suas|minhas|tuas) (?:\w{1,30} )?(?:instruções"
        r"|orientações|ordens|regras)"
        r"|\b(?:ignora|dimentica|ignorate) (?:tutte )?(?:le|tue|queste) (?:\w{1,30} )?(?:istruzioni|regole|indicazioni)"
        r"|\b(?:negeer|vergeet) (?:alle |de )?(?:\w{1,30} )?(?:instructies|opdrachten|regels)"
        r"|\b(?:zignoruj|ignoruj|zapomnij)\s.{0,24}(?:instrukcj|polece)|\bzaboravi (?:sve )?(?:\w{1,30}"
        r" )?(?:instrukcije"
        r"|upute)",
    ),
    (
        "ignore-instructions-other-scripts",
        "",
        r"(?:игнорир|забуд|проигнор|забыт)\w{1,30}\s{1,2}(?:\w{1,30}\s{1,2}){0,2}(?:инструкци|указани|команд|правил)"
        r"|(?:忽略|无视|無視|忘记|忘掉|不要理会).{0,8}(?:之前|以上|上面|先前|前面|所有).{0,8}(?:指令|指示|说明|提示|規則|规则|命令)"
        r"|(?:これまで|以前|上記|前)の.{0,6}(?:指示|命令|プロンプト|ルール).{0,6}(?:無視|忘れ)"
        r"|(?:이전|위의|모든).{0,6}(?:지시|명령|지침).{0,6}(?:무시|잊)"
        r"|(?:पिछले|पूर्व|उपरोक्त|सभी).{0,12}निर्देश.{0,12}(?:अनदेख|नज़रअंदाज़|भूल)"
        r"|(?:αγνο[ήη]σ|ξ[έε]χνα|ξεχ[άα]σ).{0,24}(?:οδηγ[ίι]ες|εντολ[έε]ς)|(?:تجاهل|انس).{0,16}(?:التعليمات|الأوامر"
        r"|تعليمات)",
    ),
    (
        "reveal-system-prompt",
        "system developer initial hidden secret internal original starting base preset confidential"
        " instructions rules directives guidelines prompt",
        r"\b(?:reveal|repeat|print|output|show|display|tell|give|leak|dump|recite|spell|write out|return"
        r"|summari[sz]e|translate"
        r"|share|disclose|paraphrase|encode|type|list|provide|expose|describe|copy|paste|state|quote)\s{1,2}"
        r"(?:(?:me|us|back|out|verbatim|all|of|exactly|everything|in|about)\s{1,2}){0,4}(?:your|the)\s{1,2}"
        r"(?:(?:full|entire|whole|complete|exact|above|actual|current|own|very)\s{1,2}){0,3}"
        rf"{_OWN}{_PROMPT}\b(?! in the (?:log|chat|console))"
        r"|\b(?:repeat|print|output|recite|reveal|list|show) (?:me )?(?:all )?(?:of )?(?:the|your) (?:instructions"
        r"|rules|directives|guidelines)"
        r" (?:that )?(?:you (?:were|have been|'ve been) (?:given|told)|you (?:received|got|follow|have)|(?:given to"
        r"|governing) you)"
        r"|\b(?:output|print|show|reveal|display|repeat|leak) (?:all )?(?:of )?your (?:\w{1,30} )?(?:prompt"
        r"|instructions)\b(?: text)?"
        r"|\b(?:what|which) (?:are|were|is|was|does) (?:your|the) (?:exact |full |very )?"
        r"(?:initial|original|system|starting|hidden|secret|internal|developer)[\s_-](?:instructions?|prompts?"
        r"|directives|rules|message)"
        r"(?: say| given to you| you (?:were given|follow|received))?\s{0,2}(?:\?|$|and\b)"
        r"|\bwhat (?:instructions|rules|prompt|directives) (?:were|have|did|are) you (?:been )?(?:given|get|told"
        r"|receive|following)",
    ),
    (
        "reveal-context",
        "repeat print output copy display recite translate summarize spell write return show reveal what"
        " instructions drucke",
        r"\b(?:repeat|print|output|copy|display|recite|translate|summari[sz]e|spell check|write down|return|show)"
        r" (?:(?:me|back|out|all|verbatim|exactly|of|in full|everything|and print|only)\s){0,4}(?:the |this |your )?"
        r"(?:(?:text|words?|content|contents|prompt|instructions?|messages?|sentences?|lines?|everything"
        r"|conversation)\s)?"
        r"(?:(?:that (?:is|was|stands|came) |written )?(?:above|before)(?: this (?:line|message|sentence|point"
        r"|prompt|text))?)"
        r"(?: (?:starting|beginning|that (?:starts|begins)) with\b| verbatim\b| word for word\b| in a (?:txt )?code"
        r" ?block\b| exactly\b|,? including\b)"
        r"|\b(?:repeat|print|output|reveal|show)(?: me)? (?:the |all |all the )?(?:words|text|instructions"
        r"|everything|content)"
        r" (?:above|before this|from the (?:beginning|start) of (?:this|the|our) (?:conversation|chat))"
        r"(?:\s{0,2}[.!?:]|$| (?:starting|beginning|verbatim|word|exactly|in))"
        r"|\b(?:what (?:was|is|stands|were)|repeat what was) (?:written|said|(?:the )?\w{1,30} sentences) (?:at the"
        r" (?:beginning|start)|above|before)"
        r"(?: of (?:this|our|the) (?:conversation|chat|text|document|prompt))?\s{0,2}\?"
        r"|\binstructions? (?:that )?you (?:were|have been) given (?:at|in|before|prior|to)"
        r"|\bprint (?:the|your|all|out the) (?:\w{1,30} ){0,2}prompt(?:[ _-]text)?\b(?! (?:is|to the user|on|for|in))"
        r"|\bshow (?:me )?all your prompt|\bdruck(?:e|en sie) (?:nun )?die obige",
    ),
    (
        "reveal-indirectly",
        "instructions prompt system initial developer directives rules message instructed told programmed given"
        " assistant ai",
        r"(?:start|begin) (?:your |the )?(?:answer|response|reply|output|message) with\W{1,4}(?:my|the|these|here"
        r" are (?:my|the)) (?:system )?"
        r"(?:instructions|prompt|directives|rules)"
        r"|(?:complete|finish|continue) (?:this|the) (?:sentence|phrase|text)\W{1,5}(?:i (?:was|am|have been)"
        r" (?:instructed|told|programmed|given)"
        r"|my (?:system )?(?:prompt|instructions)|you are an? (?:ai|assistant)\b)"
        r"|\b(?:console\.log|print|echo|puts|alert|printf)[\s(][\s(\"'$]{0,3}(?:system|initial"
        r"|developer)_?(?:prompt|instructions?)\b"
        r"|<\s{0,2}/?(?:system|initial|developer)[_-](?:prompt|instructions?|message)s?\s{0,2}/?>"
        r"|\b(?:encode|translate|reverse|rot13|base64|pig latin|poem|spell|morse)\b.{0,60}\byour (?:system |initial"
        r" |original |hidden |secret )?(?:instructions|prompt|directives)\b"
        r"|\b(?:encode|translate|base64)\b.{0,40}:\s{0,2}(?:your )?system (?:instructions|prompt)"
        r"|\b(?:first|last) (?:\w{1,30} )?(?:words|sentences?|characters|lines?|paragraph) of (?:your|the) (?:\w{1,30}"
        r" )?(?:prompt|instructions)\b",
    ),
    (
        "reveal-german",
        "prompt system systemprompt systemanweisung systemnachricht anfangsanweisungen instruktionen anweisungen"
        " prompttext initialer",
        r"\b(?:zeig(?:e|en sie)?|nenn(?:e|en sie)?|gib|geben sie|verrat(?:e|en sie)?|wiederhol(?:e|en sie)?"
        r"|druck(?:e|en sie)|schreib(?:e|en sie)?"
        r"|übersetz(?:e|en sie)|fass(?:e|en sie)|offenbar(?:e|en sie))\s{1,2}(?:\w{1,30}\s{1,2}){0,3}(?:deine?n?"
        r"|ihren?|den"
        r"|die)\s{1,2}(?:\w{1,30}\s{1,2}){0,2}"
        r"(?:system[- ]?prompt|systemanweisung(?:en)?|systemnachricht|anfangsanweisungen|initialen? prompt"
        r"|prompt-?text)"
        r"|\b(?:wie laute[nt]|was (?:sind|ist|steht in)) (?:deine?m?r?|ihre?m?r?) (?:\w{1,30} )?(?:system[- ]?prompt"
        r"|anweisungen|instruktionen|systemanweisung(?:en)?)"
        r"|\b(?:deine|ihre) (?:\w{1,30} )?(?:anweisungen|instruktionen) (?:aus|preis|wieder|offen)\b",
    ),
    (
        "ask-for-the-secret",
        "password pass passcode passphrase passwort secret",
        rf"\b(?:can|could|would|will) you (?:please )?(?:tell|share|give|reveal|confirm|provide)(?: (?:me|us|with"
        rf" me|with us))?(?: what)? "
        rf"(?:your|the|our) (?:secret |system )?{_SECRET}\b(?:\s{{0,2}}\?|\s{{0,2}}$| (?:for|to|of) (?:our|the"
        rf"|your) (?:system"
        rf"|account)| is\b)"
        rf"|\b(?:give|tell|send|share(?: with)?|confirm|reveal) (?:me|us|to me) your (?:\w{{1,30}} )?{_SECRET}\b"
        rf"|\b(?:ask(?:ed)? for|if you (?:give|tell) me|what is|what's|what would|to know) your {_SECRET}\b(?!"
        rf" (?:policy|manager|reset|requirement))"
        rf"|\bwhat (?:would )?your {_SECRET} (?:is|be|in this)\b|\b(?:share|give|tell|confirm)(?:"
        rf" \w{{1,30}}){{0,2}} your"
        rf" {_SECRET}\?"
        r"|\b(?:wenn (?:du|sie) mir|gib mir|geben sie mir|(?:nenn|sag)(?:e|en sie)? mir|wie lautet) (?:dein|ihr"
        r"|das) (?:geheime )?passwort",
    ),
    (
        "role-marker",
        "im system user assistant start eot endofprompt endoftext inst sys instruction admin developer root sudo debug",
        r"<\|(?:im_start|im_end|system|user|assistant|start_header_id|eot_id|endofprompt|endoftext)\|>|\[/?INST\]"
        r"|<</?SYS>>"
        r"|^\s{0,2}#{2,4}\s{0,2}(?:system|instruction)s?\s{0,2}:.{0,200}\b(?:you (?:are|must|will)|ignore)\b"
        r"|^\s{0,2}[\[<{(]?\s{0,2}(?:system|admin(?:istrator)?|developer|root|sudo) ?(?:mode|override|message"
        r"|prompt|note"
        r"|instruction|command)?\s{0,2}[\]>})]?\s{0,2}:?\s{0,2}"
        r"(?:you (?:must|will|are now)|ignore|disregard|override|display system|reveal|new instructions)"
        r"|<\s{0,2}(?:system|admin|developer|debug)[ _-]mode\s{0,2}>|\[\s{0,2}system\s{0,2}\]\s{0,2}\(#",
    ),
    (
        "end-of-input",
        "end instructions orders directives task job goal role",
        r"={3}\s{0,2}end\b|-{3}\s{0,2}end of (?:prompt|instructions|input|text|document)s?\b"
        r"|\bend of (?:the )?(?:system )?(?:prompt|instructions)\b.{0,40}\b(?:new|now|begin|ignore|user)\b"
        r"|\b(?:additional|new|updated|revised|real|actual) (?:system )?(?:instructions?|orders?"
        r"|directives?)\s{0,2}(?::|-)\s"
        r"|\b(?:your|the) (?:new )?(?:instructions|task|job|goal|orders?) (?:are|is) now to\b|\byour new (?:task"
        r"|instructions|job|goal|role)(?: (?:is|are)\b|\s{0,2}:)",
    ),
    (
        "praise-and-new-task",
        "well good excellent superb great congratulations enough gut ausgezeichnet großartig hervorragend prima"
        " erledigt genügt done",
        r"\b(?:well done|very good|very well done|excellent (?:work|performance|job)|superbl?y?(?: done)?|great"
        r" (?:job|work)|congratulations"
        r"|that is (?:done|enough)|did it really (?:great|well))\b.{0,80}"
        r"(?:\bnow\b.{0,40}\b(?:task|instruction|assignment|write|focus|ask you)|\bnew (?:task|instruction"
        r"|assignment)s)"
        r"|\b(?:sehr gut|ausgezeichnet|großartig|gut gemacht|hervorragend|prima|das ist erledigt|das genügt)\b.{0,80}"
        r"(?:\b(?:nun|jetzt)\b.{0,40}\b(?:aufgaben?|anweisungen|verfasse|schreibe|herausforderung|hilf)|\bneuen?"
        r" (?:aufgaben?|anweisungen))",
    ),
    (
        "false-authority",
        "administrator admin root developer sudo system maintenance debug diagnostics knowledge developed know"
        " god your",
        r"\b(?:administrator|admin|root|developer|sudo|system)[ _-]?(?:override|mode(?: is)? (?:enabled|activated"
        r"|on))\b\s{0,2}[:.!,]"
        r"|\b(?:you are (?:now )?in|enter(?:ing)?|initiat(?:e|ing)|activat(?:e|ing)|running an?) (?:\w{1,30}"
        r" )?['\"]?(?:maintenance|debug|diagnostics?|developer|admin"
        r"|knowledge verification|system (?:reset|upgrade|override|mode))(?: mode)?\b['\"]?[.,!].{0,60}\b(?:display"
        r"|print|show|reveal|output|provide|password|prompt|need you|can you)\b"
        r"|\bas an ai (?:model )?developed by \w{1,30}, i(?:'m| am| need to)\b"
        r"|\bi know (?:that )?you(?: (?:said|were told|are told|have been told|were instructed|are instructed)|'re"
        r" (?:told|instructed|not supposed)| are not supposed) (?:not )?to\b"
        r"|\bi am (?:god|your (?:creator|developer|master|owner|god))\b.{0,40}\b(?:must|have to|obey|answer"
        r"|comply)\b",
    ),
)

_JAILBREAK = (
    (
        "persona",
        "dan stan dude jailbroken unrestricted basedgpt evilbot antigpt freedomgpt badgpt evil unfiltered"
        " anything jailbreak god pretend developer böse uneingeschränkte ungefilterte unzensierte",
        r"\b(?:you (?:are|will be)|you're|act as|acting as|be|become|call(?:ed)?|as|to|named|known as|pretend to"
        r" be) (?:now |going to (?:be|act as|pretend to be) )?"
        r"(?:an? |the )?(?:DAN|STAN|DUDE|jailbroken|completely unrestricted|BasedGPT|EvilBOT|AntiGPT|FreedomGPT"
        r"|BadGPT|evil ai|unfiltered (?:ai|chatbot|assistant))\b"
        r"|\bDAN\b.{0,30}\bstands for\W{0,3}do anything now|\b(?:as|is|to|new|by) DAN\b.{0,60}\b(?:you|no|can|will"
        r"|free|rules)\b|\[DAN\]"
        r"|\bDo Anything Now\b.{0,200}\b(?:you|rules|answer|respond|pretend|Q)\b"
        r"|\b(?:enter|enable|activate|switch to|with|in|into) (?:the )?(?:DAN|jailbreak|god|unrestricted|evil"
        r"|unfiltered) mode\b"
        r"|\bpretend (?:that )?you (?:have|are under) no (?:rules|restrictions|guidelines|ethic|filters|limits)"
        r"|\bDEVELOPER[\\_ ]{1,3}MODE\W{1,3}(?:enabled|output|v\d)|\bdeveloper mode (?:enabled|output|activated"
        r"|v2)\b"
        r"|\b(?:du bist|spiele|sei) (?:jetzt |nun )?(?:eine? )?(?:böse|uneingeschränkte|ungefilterte|unzensierte)"
        r" (?:ki|ai|assistent)"
        r"|\bstell dir vor,? du bist eine böse ki\b",
    ),
)


def stem(word: str) -> str:
    """Four letters are enough to tell which patterns are worth a try."""
    return word[:4].lower()


def stems(words: str) -> frozenset[str]:
    return frozenset(map(stem, words.split()))


def _rules(policy: str, patterns: tuple[tuple[str, str, str], ...]) -> tuple[Rule, ...]:
    return tuple(
        Rule(name, policy, stems(words), re.compile(pattern, re.IGNORECASE | re.MULTILINE))
        for name, words, pattern in patterns
    )


RULES = (*_rules("prompt_injection", _PROMPT_INJECTION), *_rules("jailbreak", _JAILBREAK))
