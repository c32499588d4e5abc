"""Texts to ask about: seeded, of the lengths that real use has, in words every BERT knows."""

import random
from dataclasses import dataclass

_PROSE = """
the of and to in a is that it was for on are with as be this by have from at not or an but what all
were when we there can said which their time will way about many then them would write like these
her long make thing see him two has look more day could go come did number sound no most people my
over know water than call first who may down side been now find any new work part take get place
made live where after back little only round man year came show every good me give our under name
very through just form great think say help low line before turn cause same mean differ move right
boy old too does tell sentence set three want air well also play small end put home read hand port
large spell add even land here must big high such follow act why ask men change went light kind off
need house picture try us again animal point mother world near build self earth father head stand
own page should country found answer school grow study still learn plant cover food sun four thought
let keep eye never last door between city tree cross since hard start might story saw far sea draw
left late run while press close night real life few stop open seem together next white children
begin got walk example ease paper often always music those both mark book letter until mile river
car feet care second group carry took rain eat room friend began idea fish mountain north once base
hear horse cut sure watch color face wood main enough plain girl usual young ready above ever red
list though feel talk bird soon body dog family direct pose leave song measure state product black
short class wind question happen complete ship area half rock order fire south problem piece told
knew pass farm top whole king size heard best hour better true during hundred five remember step
early hold west ground interest reach fast sing listen six table travel less morning ten simple
several toward war lay against pattern slow center love person money serve appear road map science
rule govern pull cold notice voice fall power town fine certain fly unit lead cry dark machine note
wait plan figure star box noun field rest correct able pound done beauty drive stood contain front
teach week final gave green quick develop sleep warm free minute strong special mind behind clear
tail produce fact street inch lot nothing course stay wheel full force blue object decide surface
deep moon island foot yet busy test record boat common gold possible plane age dry wonder laugh
thousand ago ran check game shape yes hot miss brought heat snow bed bring sit perhaps fill east
weight language among
"""
_WORDS = _PROSE.split()

# Words a text: lowest and highest, drawn evenly on a log scale. From searches to whole pages.
LENGTHS = {"query": (2, 8), "sentence": (9, 30), "paragraph": (40, 120), "document": (150, 180)}
# Shares of the lengths. `real` is what mixed traffic looks like: most are short, few are long.
MIXES: dict[str, dict[str, float]] = {
    "real": {"query": 0.40, "sentence": 0.35, "paragraph": 0.20, "document": 0.05},
    "queries": {"query": 1.0},
    "sentences": {"sentence": 1.0},
    "paragraphs": {"paragraph": 1.0},
    "documents": {"document": 1.0},
}


@dataclass(frozen=True)
class Mix:
    """Draws texts of a mix. Every draw is new, so that no cache between here and there helps."""

    name: str
    rng: random.Random

    def draw(self) -> str:
        """A text."""
        shares = MIXES[self.name]
        kind = self.rng.choices(list(shares), list(shares.values()))[0]
        low, high = LENGTHS[kind]
        count = round(low * (high / low) ** self.rng.random())
        words = self.rng.choices(_WORDS, k=count)
        return " ".join(words).capitalize() + "."

    def draw_masked(self, mask: str = "[MASK]") -> str:
        """A text with one word hidden."""
        words = self.draw().split()
        words[self.rng.randrange(len(words))] = mask
        return " ".join(words)
