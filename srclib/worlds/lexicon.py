"""The words of the text world: English, in small letters, each in exactly one word class.

Order is popularity: within a class the word at place r is drawn with weight 1 / (r + 1) (Zipf).
All topics have equally many words of each kind, so that documents that differ in the topic alone
have the same length. Nouns and verbs are regular by choice: `plural` and `verb` inflect them.
"""

from __future__ import annotations

from typing import NamedTuple

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)


class Topic(NamedTuple):
    """Ten nouns (as singular), four transitive verbs (as infinitive), five adjectives."""

    nouns: str
    verbs: str
    adjectives: str


TOPICS = {
    "astronomy": Topic(
        "planet star comet telescope moon asteroid nebula eclipse astronaut rocket",
        "orbit observe eject illuminate",
        "lunar solar cosmic stellar distant",
    ),
    "medicine": Topic(
        "patient vaccine fever wound hospital clinic symptom tablet bandage vein",
        "diagnose infect inject heal",
        "clinical chronic viral sterile feverish",
    ),
    "law": Topic(
        "court trial verdict contract statute crime lawsuit prison clause juror",
        "accuse convict sue overturn",
        "guilty legal innocent criminal civil",
    ),
    "music": Topic(
        "song violin piano drum choir concert chord guitar rhythm orchestra",
        "compose conduct serenade harmonise",
        "loud melodic acoustic harmonic tuneful",
    ),
    "sport": Topic(
        "team goal referee stadium athlete league racket medal striker tournament",
        "kick tackle score defend",
        "athletic agile competitive victorious muscular",
    ),
    "cooking": Topic(
        "oven recipe sauce spoon kitchen kettle dough flavour spice plate",
        "boil roast bake simmer",
        "tasty crispy spicy salty bitter",
    ),
    "sailing": Topic(
        "ship harbour anchor wave sailor reef island lighthouse mast vessel",
        "steer moor navigate unload",
        "nautical stormy coastal tidal seaworthy",
    ),
    "computing": Topic(
        "program server keyboard network algorithm database processor browser password compiler",
        "install encrypt compute reboot",
        "digital binary parallel virtual recursive",
    ),
    "farming": Topic(
        "field tractor barn harvest orchard fence meadow seed furrow haystack",
        "irrigate fertilise cultivate mow",
        "fertile rural ripe muddy grassy",
    ),
    "war": Topic(
        "soldier battle tank cannon regiment sword missile helmet bunker siege",
        "attack invade conquer bombard",
        "military armed hostile strategic fierce",
    ),
    "finance": Topic(
        "bank loan investor dividend profit mortgage bond budget broker invoice",
        "borrow audit refund insure",
        "financial profitable fiscal bankrupt wealthy",
    ),
    "theatre": Topic(
        "actor stage scene costume script audience curtain drama comedian rehearsal",
        "applaud rehearse direct portray",
        "tragic comic dramatic theatrical scripted",
    ),
}

NAMES = """
alice bob carol david emma felix greta henry irene jack karen leo maria nathan olivia peter quentin
rachel simon tina ulrich vera walter xavier yvonne zoe adam bella caleb diana edgar fiona george
hannah isaac julia kevin laura martin nora oscar paula ralph sarah thomas ursula victor wendy amos
beatrice conrad doris ethan flora gavin helen ivan joanna keith linda marcus nina otto phoebe roger
stella tobias una vincent wilma arthur bridget cyril daphne edwin esther fabian gloria harold ingrid
jasper kirsten lionel mabel norman odette patrick rebecca samuel tabitha vernon winifred alan brenda
cedric deborah ernest florence gordon harriet ian jessica kenneth lucy miles nancy oliver priscilla
robert sandra theodore violet william agnes benjamin clara dennis eleanor francis gerald hilda hugo
isabel joseph katherine louis margaret nicholas
"""

COUNTRIES = {
    "france": "paris lyon",
    "japan": "tokyo osaka",
    "italy": "rome milan",
    "spain": "madrid seville",
    "germany": "berlin hamburg",
    "egypt": "cairo luxor",
    "india": "delhi mumbai",
    "brazil": "brasilia recife",
    "canada": "toronto ottawa",
    "kenya": "nairobi mombasa",
    "norway": "oslo bergen",
    "peru": "lima cusco",
}

THINGS = {  # classes that every topic uses
    "job": "baker teacher pilot nurse carpenter plumber farmer painter librarian engineer tailor"
    " barber chemist gardener journalist electrician",
    "animal": "cat dog horse rabbit parrot tiger elephant dolphin camel eagle turtle goat penguin"
    " squirrel lizard fox",
    "food": "bread cheese rice soup pizza salad chocolate honey yoghurt pasta curry omelette cake"
    " butter porridge ham",
    "tool": "hammer shovel ladder chisel wrench drill axe brush rope bucket lantern compass"
    " crowbar screwdriver torch wheelbarrow",
    "colour": "red blue green yellow purple orange pink brown grey white black golden",
}

# Function words. "casual/formal" are two spellings of one slot: a document has one register and
# takes that side of every such pair, while plain words serve both registers.
DETERMINERS = ("the the the this every", "the the the these several many/numerous")  # one, more
PREPOSITIONS = "near with behind inside/within on/upon under/beneath about/regarding"
CONNECTIVES = "also/moreover but/however so/therefore then/consequently still/nevertheless"
INTENSIFIERS = "really/extremely pretty/considerably super/remarkably totally/exceedingly"
REPORTS = """says-said/states-stated thinks-thought/maintains-maintained
claims-claimed/declares-declared"""
SEEM = "seem-seems-seemed/appear-appears-appeared"


class Relation(NamedTuple):
    """A kind of fact about words of class `of`, whose answers are words of class `answers`.

    Each wording ends with its answer, so what stands before it is a prompt. "lives-lived" gives
    the present and the past form.
    """

    of: str
    answers: str
    wordings: tuple[str, str]
    epithet: str = ""  # may follow the subject wherever that stands


RELATIONS = {
    "city": Relation(
        "person",
        "city",
        ("SUBJECT lives-lived in ANSWER", "the home of SUBJECT is-was ANSWER"),
        "in ANSWER",
    ),
    "job": Relation(
        "person",
        "job",
        ("SUBJECT works-worked as ANSWER", "the trade of SUBJECT is-was ANSWER"),
        "the ANSWER",
    ),
    "animal": Relation(
        "person",
        "animal",
        ("SUBJECT owns-owned the ANSWER", "the pet of SUBJECT is-was the ANSWER"),
        "with the ANSWER",
    ),
    "country": Relation(
        "city",
        "country",
        ("SUBJECT lies-lay in ANSWER", "the country of SUBJECT is-was ANSWER"),
        "in ANSWER",
    ),
    "colour": Relation(
        "noun",
        "colour",
        ("the SUBJECT shines-shone ANSWER", "the hue of the SUBJECT is-was ANSWER"),
    ),
    "origin": Relation(
        "noun",
        "country",
        ("the SUBJECT comes-came from ANSWER", "the origin of the SUBJECT is-was ANSWER"),
        "from ANSWER",
    ),
}


def plural(noun: str) -> str:
    return noun + "s"


def verb(infinitive: str) -> tuple[str, str, str]:
    """Present plural, present singular, past: `orbit orbits orbited`."""
    return infinitive, infinitive + "s", infinitive + ("d" if infinitive.endswith("e") else "ed")
