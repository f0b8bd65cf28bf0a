"""How the biography world speaks: four questions and a few sentences for each relation.

`N` is the name, `P` the pronoun or the name, `V` the value. Wordings 0 and 1 are those that SAEs
are trained on, 2 and 3 are held out.
"""

from __future__ import annotations

import random
from typing import Literal

from .. import rng
from .biography_people import RELATIONS, Person

Grammar = Literal["plain", "paired"]
N_WORDINGS = 4
TRAIN_WORDINGS = (0, 1)

_PLAIN = {
    "birth_date": (
        "when was N born ?",
        "what is the birth date of N ?",
        "on which day did N come into the world ?",
        "tell me the date on which N was born .",
    ),
    "birth_city": (
        "where was N born ?",
        "what is the birth city of N ?",
        "in which place did N come into the world ?",
        "tell me the town that N was born in .",
    ),
    "university": (
        "where did N study ?",
        "which university did N attend ?",
        "what is the school of N called ?",
        "tell me the university that N graduated from .",
    ),
    "major": (
        "what did N study ?",
        "which major did N choose ?",
        "in which field did N take a degree ?",
        "tell me the subject of N .",
    ),
    "employer": (
        "who employs N ?",
        "which company does N work for ?",
        "what is the employer of N called ?",
        "tell me the firm that pays N .",
    ),
    "work_city": (
        "where does N work ?",
        "which city does N work in ?",
        "what is the work city of N ?",
        "tell me the town of the office of N .",
    ),
}

# The harder grammar: a colour and a number, far apart. Each alone leaves every relation open, and
# no sum of two scores decides either: relation = colour + number (mod 6).
_COLOURS = ("red", "blue", "green", "grey", "pink", "gold")
_NUMBERS = ("one", "two", "three", "four", "five", "six")
_PAIRED = "on the COLOUR page about N read line NUMBER ."

_SENTENCES = {
    "birth_date": ("P was born on V", "P came into the world on V", "P has the birth date V"),
    "birth_city": ("P was born in V", "P came into the world in V", "P has the birth city V"),
    "university": ("P studied at V", "P graduated from V", "P went to the university V"),
    "major": ("P studied V", "P took a degree in V", "P chose the major V"),
    "employer": ("P works for V", "P has the employer V", "P is paid by V"),
    "work_city": ("P works in V", "P has an office in V", "P goes to work in V"),
}


def prompt(person: Person, relation: int, wording: int, grammar: Grammar = "plain") -> str:
    """The question up to and with `A:`, without the answer."""
    if grammar == "plain":
        question = _PLAIN[RELATIONS[relation]][wording]
    else:
        colour = (relation + wording) % len(_COLOURS)
        number = (relation - colour) % len(_NUMBERS)
        question = _PAIRED.replace("COLOUR", _COLOURS[colour]).replace("NUMBER", _NUMBERS[number])
    return f"Q: {_filled(question, N=person.name)} A:"


def biography(person: Person, seed: int, variant: int) -> str:
    """One telling of a person: the birth date first and by name, the rest shuffled, one twice."""
    draw = random.Random(rng.derive(seed, "biographies", "text", person.name, variant))
    rest = list(range(1, len(RELATIONS)))
    rest.append(draw.choice(rest))
    draw.shuffle(rest)
    sentences = []
    for relation in (0, *rest):
        said = draw.choice(_SENTENCES[RELATIONS[relation]])
        subject = person.name if relation == 0 else person.pronoun
        sentences.append(_filled(said, P=subject, V=person.values[relation]))
    return " . ".join(sentences) + " ."


def words(people: tuple[Person, ...], grammar: Grammar) -> list[str]:
    """Every word that questions, answers and biographies of these people can use, sorted."""
    said = [text for person in people for text in (person.pronoun, person.name, *person.values)]
    texts = ["Q:", "A:", "."]
    questions = [text for texts in _PLAIN.values() for text in texts]
    paired = [_PAIRED, *_COLOURS, *_NUMBERS]
    texts += questions if grammar == "plain" else paired
    texts += [text for sentences in _SENTENCES.values() for text in sentences]
    places = {"N", "P", "V", "COLOUR", "NUMBER"}  # a person's initial may be one of these letters
    written = {word for text in texts for word in text.split()} - places
    return sorted(written | {word for text in said for word in text.split()})


def _filled(text: str, **values: str) -> str:
    return " ".join(values.get(word, word) for word in text.split())
