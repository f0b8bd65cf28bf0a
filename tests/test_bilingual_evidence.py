"""The truth of single tokens, as the granularity rules read it."""

from __future__ import annotations

import torch

from srclib.methods import latents
from srclib.worlds.bilingual import BilingualWorld
from srclib.worlds.bilingual_evidence import MEANINGS, Evidence, _following

WORLD = BilingualWorld()
TEXTS = WORLD.documents(60, "evidence")
EVIDENCE = Evidence(WORLD, TEXTS)


def test_positions_count_behind_bos() -> None:
    where = torch.tensor([3, 7]), torch.tensor([0, 47])
    shown = EVIDENCE.at(*where)
    assert shown.tokens == [TEXTS["text"][3].split()[0], TEXTS["text"][7].split()[-1]]
    assert shown.neighbours["before"] == [None, TEXTS["text"][7].split()[-2]]
    assert shown.neighbours["after"] == [TEXTS["text"][3].split()[1], None]
    assert shown.languages == [TEXTS["kind"][3], TEXTS["kind"][7]]
    assert tuple(shown.meanings) == MEANINGS


def test_the_next_content_word() -> None:
    row = torch.tensor([[-1, 4, -1, -1, 2, -1]])
    assert _following(row).tolist() == [[4, 2, 2, 2, -1, -1]]


def test_the_oracle_reads_it() -> None:
    """All places of a concept: synonymy; of a category, or before it: similarity."""
    concept = int(EVIDENCE.concept[EVIDENCE.concept >= 0].mode().values)
    category = WORLD.concepts[concept].category

    def judged(table: torch.Tensor, value: int) -> str:
        documents, positions = (table == value).nonzero(as_tuple=True)
        shown = EVIDENCE.at(documents, positions)
        return latents.oracle(
            shown.tokens, shown.concepts, shown.meanings, shown.neighbours, min_texts=5
        )

    assert judged(EVIDENCE.concept, concept) == "synonymy"
    assert judged(EVIDENCE.meanings["category"], category) == "similarity"
    before = torch.where(EVIDENCE.concept < 0, EVIDENCE.meanings["next category"], -1)
    assert judged(before, category) == "similarity"
    assert judged(EVIDENCE.language, 0) == "uninterpretable"
    word = int(EVIDENCE.tokens.flatten().mode().values)
    assert judged(EVIDENCE.tokens, word) == "token"


def test_the_category_of_the_subject() -> None:
    subject = EVIDENCE.meanings["subject"].flatten()
    expected = torch.tensor([WORLD.concepts[i].category for i in subject.tolist()])
    assert torch.equal(EVIDENCE.meanings["subject category"].flatten(), expected)
