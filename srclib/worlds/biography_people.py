"""People of the biography world: made-up names, six facts each, and where a work city comes from.

Every name and value is made of syllables, so no language model knows it beforehand. A value is one
word, except dates (day month year).
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from .. import rng
from ..errors import DataError, ParameterError, message

RELATIONS = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAYS, YEARS = range(1, 29), range(1950, 2006)

# How a word ends tells people, not models, what it names.
_ENDINGS = {
    "first": ("a", "o", "i", "en"),
    "middle": ("el", "an", "is", "or"),
    "last": ("sen", "man", "ert", "ley"),
    "city": ("ton", "burg", "ville"),
    "university": ("ium",),
    "major": ("ics", "ology"),
    "employer": ("corp", "tech"),
}
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
MOST_WORDS = 2000  # per ending; there are 4,970 stems, and a draw must find a new one soon


class Person(NamedTuple):
    """One person; `values` are the answers in the order of RELATIONS."""

    name: str
    """first, middle and last name: unique"""
    values: tuple[str, ...]
    pronoun: str


@dataclass(frozen=True)
class ListSizes:
    """How many different names and values people are drawn from; the paper's sizes on request."""

    first: int = 40
    middle: int = 40
    last: int = 80
    city: int = 30
    university: int = 30
    major: int = 24
    employer: int = 30

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            size = getattr(self, name)
            most = MOST_WORDS * len(_ENDINGS[name])
            if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= most:
                allowed = f"an integer from 2 to {most}"
                raise ParameterError(message(name, size, allowed, "The paper's largest is 1,002."))


def word_lists(sizes: ListSizes, seed: int) -> dict[str, list[str]]:
    """Different made-up words for each field of `sizes`; no word is in two lists."""
    taken: set[str] = set()
    lists: dict[str, list[str]] = {}
    for kind, endings in _ENDINGS.items():
        draw = random.Random(rng.derive(seed, "biographies", "words", kind))
        lists[kind] = []
        while len(lists[kind]) < getattr(sizes, kind):
            stem = "".join(draw.choices(_SYLLABLES, k=draw.choice((1, 2, 2))))
            word = (stem + draw.choice(endings)).capitalize()
            if word not in taken:
                taken.add(word)
                lists[kind].append(word)
    return lists


def draw_people(n: int, sizes: ListSizes, seed: int) -> tuple[Person, ...]:
    """`n` people with different names; person i does not depend on n.

    The work city is that of the employer; everything else is drawn uniformly and independently.
    Raises ParameterError where there are not enough names.
    """
    most = sizes.first * sizes.middle * sizes.last // 2  # beyond, new names are hard to find
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        fix = "Ask for fewer people or lengthen the lists of names."
        raise ParameterError(message("n people", n, f"an integer from 1 to {most}", fix))
    lists = word_lists(sizes, seed)
    draw = random.Random(rng.derive(seed, "biographies", "employers"))
    seat = {employer: draw.choice(lists["city"]) for employer in lists["employer"]}
    people: dict[str, Person] = {}
    draw = random.Random(rng.derive(seed, "biographies", "people"))
    while len(people) < n:
        name = " ".join(draw.choice(lists[kind]) for kind in ("first", "middle", "last"))
        date = f"{draw.choice(DAYS)} {draw.choice(MONTHS)} {draw.choice(YEARS)}"
        drawn = [draw.choice(lists[kind]) for kind in ("city", "university", "major", "employer")]
        pronoun = draw.choice(("he", "she"))
        people.setdefault(name, Person(name, (date, *drawn, seat[drawn[-1]]), pronoun))
    return tuple(people.values())


def read_people(path: str | Path) -> tuple[Person, ...]:
    """People of a CSV file with the columns name, pronoun and those of RELATIONS.

    Raises DataError naming file and row for a missing column or field, or a person twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Give a CSV file of people.")
    wanted = ("name", "pronoun", *RELATIONS)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    people = []
    for number, row in enumerate(rows, start=2):  # the header is line 1
        for column in wanted:
            if not (row.get(column) or "").strip():
                fix = f"Fill in the columns {', '.join(wanted)}."
                where = f"{path.name}, line {number}: {column}"
                raise DataError(message(where, row.get(column), "a text that is not empty", fix))
        values = tuple(row[relation].strip() for relation in RELATIONS)
        people.append(Person(row["name"].strip(), values, row["pronoun"].strip()))
    check_people(people, path.name)
    return tuple(people)


def check_people(people: Sequence[Person], where: str = "people") -> None:
    """Raises DataError without people, for a name twice, or for another number of values."""
    if not people:
        raise DataError(message(where, 0, "at least one person", "Add some."))
    seen: dict[str, int] = {}
    for i, person in enumerate(people):
        if person.name in seen:
            fix = "A question names its person by the name alone: rename one of them."
            allowed = f"a name of its own (person {seen[person.name]} has it already)"
            raise DataError(message(f"{where}: person {i}", person.name, allowed, fix))
        seen[person.name] = i
        if len(person.values) != len(RELATIONS) or not all(person.values):
            allowed = f"one text for each of {', '.join(RELATIONS)}"
            fix = "Complete the person."
            raise DataError(message(f"{where}: values of person {i}", person.values, allowed, fix))
