"""Letters that look like Latin ones: a small table in the spirit of Unicode's confusables (UTS 39), written by hand.

Only what a reader takes for the Latin letter at a glance; letters that merely sound alike are left alone.
"""

_PAIRS = (
    # Cyrillic
    "аa вb еe ёe ѐe зz иu іi їi јj кk мm нh оo пn рp сc тt уy ўy хx ѕs ԁd ԍg һh ԛq ԝw ӏl ѵv ьb гr ғf ҽe үy қk ңh ҳx",
    "АA ВB ЕE ЁE ІI ЇI ЈJ КK МM НH ОO РP СC ТT УY ХX ЅS ԀD ԌG ҺH ԚQ ԜW ӀI ѴV ҮY",
    # Greek
    "αa βb γy εe ζz ηn ιi κk νv οo ρp σo ςc τt υu χx ωw άa έe ίi όo ύu ϲc ϳj",
    "ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ϹC ͿJ",
    # Armenian
    "օo սu հh ոn ռn ցg քp զq յj ԼL ՍS ՕO",
    # Cherokee
    "ᎠD ᎡR ᎢT ᎥI ᎪA ᎫJ ᎬE ᎳW ᎷM ᎻH ᎽY ᏀG ᏂH ᏃZ ᏎV ᏏB ᏔW ᏙV ᏚS ᏞL ᏟC ᏢP ᏦK ᏧD ᏴB",
    # Latin small capitals, letters of phonetic alphabets, dotless and inverted forms
    "ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz",
    "ɑa ɒa ɓb ƅb ƈc ɖd ɗd ǝe ɛe ɡg ɠg ɦh ı" + "i ɨi ɩi ȷj ƙk ɭl ɱm ɲn ŋn ɵo ƥp ɋq ɾr ʂs ƭt ʈt ʋv ɯw ʎy ʐz ƶz",
)

LOOKALIKES: dict[str, str] = {pair[0]: pair[1] for pairs in _PAIRS for pair in pairs.split()}
"""One character that is not Latin (or not a plain Latin letter) to the plain Latin letter it is taken for."""


def _alphabets() -> dict[str, str]:
    """Letters in boxes and circles that compatibility forms (NFKC) leave as they are."""
    table: dict[str, str] = {}
    for first, letter in ((0x1F150, "A"), (0x1F170, "A"), (0x1F1E6, "A"), (0x249C, "a"), (0x1F110, "A")):
        table |= {chr(first + n): chr(ord(letter) + n) for n in range(26)}
    return table


ENCLOSED: dict[str, str] = _alphabets()
"""Negative circled and squared, regional indicator (flag) and parenthesised letters."""
