"""Some four hundred common words, English and German: enough to tell language from letters by chance."""

_WORDS = """
about above access act adhere after again all allowed also always and another answer any anything are around asked
assistant assume available away back because been before begin being below between but bypass can cannot card
change chat code command commands complete confidential content context could data day delete describe details
developer did different directions directives disable discard disclose disregard display does done don't earlier
email enable ending english enter even ever every everything exactly explain file files filter filters find first
follow following for forget form free from full get give given good guideline guidelines had has have hello help her
here hidden his how however human ignore immediately important include information initial input instead instruction
instructions into its it's just keep key know language last let like list little long look made make man many may
mention message messages might mode more most much must name need never new next not nothing now number obey off
once one only open order orders other our out output over override own pass password people person phrase please
point policy possible pretend previous print prior private prompt prompts provide question read ready refuse
remember repeat reply request respond response restrictions return reveal right role rule rules said same say see
secret secrets send sentence set several shall she should show shown since some something speak start state step
still stop such system take task tell text than that the their them then there these they thing things this those
three through time today told too tool training translate true two under unfiltered unlock unrestricted until upon
use used user using verbatim very want was way we well were what when where whether which while who whole why will
with without word words work world would write written yes you your
aber alle allem allen aller alles als also anderen anweisung anweisungen antwort antworte auch auf aus bei beim
befehl befehle bin bis bitte danach dann das dass dein deine deinen deiner dem den der des die diese diesen dieser
dieses dir doch durch ein eine einem einen einer eines entwickler erste etwas frage frei für ganze gegeben gib
gibt haben hat hier ich ignoriere ihm ihr ihre immer ist jede jetzt kann kannst kein keine können mehr mein meine
mich mir mit muss nach nicht nichts noch nun nur oben oder ohne passwort regeln sag sage schon schreib schreibe sein
seine sich sie sind soll sollst system text und uns unter vergiss vergesse vom von vor vorher
vorherigen war was weil wenn werden wie wieder wir wird wort zeig zeige zum zur
"""

WORDS = frozenset(_WORDS.split())
"""Lower case."""

LONGEST = max(map(len, WORDS))
