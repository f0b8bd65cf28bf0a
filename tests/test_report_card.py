"""The report card and the doctor: planted mistakes are found, numbers are those of the metrics."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from named_model import save_tiny
from tiny import draw
from tiny_lm import D, ids, tiny_lm

import srclib
from srclib import metrics, report_card
from srclib.errors import DataError
from srclib.formats import write_saelens
from srclib.report_card import diagnosis
from srclib.sources import Rows
from srclib.store import files
from srclib.suite import any_sae
from srclib.suite.cli import main


@pytest.fixture(scope="module")
def model() -> object:
    return tiny_lm("gpt2")


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return ids(5, 300, 8)


@pytest.fixture(scope="module")
def trained(model: object, tokens: torch.Tensor) -> srclib.SAE:
    """An SAE of block 1, on inputs of mean norm sqrt(d), as SAELens trains them."""
    acts = diagnosis.rows_of(model, tokens, 1, "out")
    rows = Rows(acts * math.sqrt(D) / acts.norm(dim=1).mean(), held_out=200)
    sae = srclib.SAE(D, 64, srclib.TopK(6), decoder_norm=1.0)
    srclib.train(sae, rows, srclib.TrainConfig(n_steps=600, n_batch=256, lr=1e-2))
    return sae.eval()


def test_the_doctor_finds_layer_site_and_scale(model, tokens, trained) -> None:
    table = diagnosis.doctor(trained, model, tokens)
    layer, site, _, scale = table.index[0]
    assert (layer, site, scale) == (1, "out", "of mean norm sqrt(d)")
    elsewhere = [at for at in table.index if at[:2] != (1, "out")]
    assert table.fvu.iloc[0] < 0.5 * table.fvu[elsewhere].min()
    said = diagnosis.diagnosis(table)
    assert said.startswith(f"Fits best: layer {layer}") and "mean norm sqrt(d)" in said


def test_the_doctor_finds_a_folded_scale(model, tokens, trained) -> None:
    acts = diagnosis.rows_of(model, tokens, 1, "out")
    again = srclib.SAE(D, 64, srclib.TopK(6))
    again.load_state_dict(trained.state_dict())
    again.fold_input_scale(math.sqrt(D) / float(acts.norm(dim=1).mean())).eval()
    layer, _, _, scale = diagnosis.doctor(again, model, tokens).index[0]
    assert layer == 1 and scale == "as they are"


def test_the_doctor_says_that_nothing_fits(model, tokens) -> None:
    stranger = srclib.SAE(D, 64, srclib.TopK(1), seed=9).eval()
    assert diagnosis.diagnosis(diagnosis.doctor(stranger, model, tokens)).startswith("No place")
    with pytest.raises(DataError, match="d_in=12"):
        diagnosis.doctor(srclib.SAE(12, 24, srclib.TopK(1)), model, tokens)


def test_a_doubled_threshold_shows_in_l0() -> None:
    sae = srclib.SAE(8, 32, srclib.JumpReLU(threshold=0.3), decoder_norm=1.0).eval()
    acts = draw(3, 400, 8)
    before = {row.name: row for row in report_card.report(sae, acts)}
    with torch.no_grad():
        sae.theta *= 2
    after = {row.name: row for row in report_card.report(sae, acts)}
    assert after["L0"].high < before["L0"].low


def test_the_card_has_the_numbers_of_the_metrics(model, tokens, trained) -> None:
    acts = diagnosis.rows_of(model, tokens, 1, "out")
    rows = report_card.report(trained, acts, second=trained, model=model, tokens=tokens, layer=1)
    by_name = {row.name: row for row in rows}
    assert by_name["c_dec"].value == metrics.decoder_pairwise_cosine(trained.W_dec.detach())
    out = trained(acts)
    assert by_name["L0"].value == pytest.approx(metrics.l0(out.acts))
    dead = 1 - metrics.alive(out.acts).double().mean().item()
    assert by_name["latents that never fired"].value == pytest.approx(dead)
    assert by_name["latents shared with the second SAE"].value == 1
    assert by_name["FVU"].low <= by_name["FVU"].value <= by_name["FVU"].high
    for row in rows:
        assert row.says and row.silent and (math.isnan(row.low) or row.low <= row.value <= row.high)


def test_loss_recovered_is_one_for_a_perfect_sae(model, tokens) -> None:
    perfect = srclib.SAE(D, 2 * D, srclib.ReLU(), decoder_norm=1.0).eval()
    with torch.no_grad():
        perfect.W_enc.copy_(torch.cat([torch.eye(D), -torch.eye(D)], 1))
        perfect.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
    rows = report_card.report(perfect, model=model, tokens=tokens, layer=1)
    by_name = {row.name: row for row in rows}
    assert by_name["loss recovered"].value == pytest.approx(1, abs=1e-4)
    assert by_name["FVU"].value == pytest.approx(0, abs=1e-10)


def test_weights_alone_tell_some_of_it() -> None:
    sae = srclib.SAE(6, 12, srclib.TopK(2), decoder_norm=1.0)
    with torch.no_grad():
        sae.W_dec[1] = 2 * sae.W_dec[0]
    rows = report_card.report(sae)
    copies = {row.name: row.value for row in rows}["rows with a copy"]
    assert {row.group for row in rows} == {"weights"} and copies == pytest.approx(2 / 12)
    assert len(report_card.missing(None, None, None)) == 5
    for bad in (draw(1, 200, 5), draw(1, 50, 6), draw(1, 200, 6) / 0):
        with pytest.raises(DataError, match="acts="):
            report_card.report(sae, bad)


def test_two_seeds_bound_what_both_can_have_recovered() -> None:
    one, other = (srclib.SAE(64, 32, srclib.TopK(2), seed=s, decoder_norm=1.0) for s in (0, 1))
    bound = "recovered features, at most"
    for second, most in ((one, 1), (other, 0.5)):  # random rows are never near each other
        rows = {row.name: row.value for row in report_card.report(one, second=second)}
        assert rows[bound] == most
    with torch.no_grad():  # half of the rows are the same, in another order
        other.W_dec[:16] = one.W_dec[16:]
    rows = {row.name: row.value for row in report_card.report(one, second=other)}
    assert rows[bound] == 0.75


def test_siblings_tell_where_a_score_is_least() -> None:
    saes, acts = [srclib.SAE(8, 8, srclib.TopK(k)) for k in (1, 2, 4)], draw(3, 400, 8)
    for sae, lean in zip(saes, (0.5, 0.0, 0.5), strict=True):
        with torch.no_grad():
            sae.W_dec.copy_(torch.eye(8) + lean * torch.ones(8, 8))
    rows = {row.name: row for row in report_card.report(saes[0], acts, siblings=saes[1:])}
    assert rows["L0 where c_dec is least"].value == metrics.l0(saes[1](acts).acts)
    assert "at an end" not in rows["L0 where c_dec is least"].silent
    rows = {row.name: row for row in report_card.report(saes[0], acts, siblings=saes[1:2])}
    assert "at an end" in rows["L0 where c_dec is least"].silent


WORDS = [f"{first}{second}{last}" for first in "ab" for second in "cde" for last in "fghijklmno"]
WORDS += ["\N{HIRAGANA LETTER A}", "\N{HIRAGANA LETTER I}"]


def spoken(n_texts: int, *, letters: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [n_texts, 8], and activations: a direction of each word, and of its first letter."""
    tokens = (draw(7, n_texts, 8).abs() * 1e4).long() % len(WORDS)
    first = torch.tensor([[w[0] == c for c in "ab"] for w in WORDS]).float()
    return tokens, torch.cat([torch.eye(len(WORDS)), letters * first], 1)[tokens]


def reader(n_words: int, *, letters: bool) -> srclib.SAE:
    """One latent per direction; without letters those of words write their first letter, too."""
    n = n_words + 2
    sae = srclib.SAE(n, n, srclib.JumpReLU(threshold=0.5, bandwidth=0.1)).eval()
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(n))
        sae.W_dec.copy_(torch.eye(n))
        if not letters:
            sae.W_enc[:, n_words:] = 0
            for i, word in enumerate(WORDS):
                if word[0] in "ab":
                    sae.W_dec[i, n_words + "ab".index(word[0])] = 1
    return sae


def test_latents_of_one_token_and_of_both_scripts() -> None:
    tokens, acts = spoken(600, letters=1.0)
    n = len(WORDS)
    names = ("latents on one token", "latents on related tokens", "latents of both scripts")
    said = report_card.report(
        reader(n, letters=True), acts, tokens=tokens, decode=WORDS.__getitem__
    )
    rows = {row.name: row.value for row in said}
    assert [rows[name] for name in names] == pytest.approx([n / (n + 2), 2 / (n + 2), 0])
    both = reader(n, letters=True)
    with torch.no_grad():
        both.W_enc.zero_()
        both.W_enc[:n, 0] = 1  # fires on every word
    said = report_card.report(both, acts, tokens=tokens, decode=lambda t: WORDS[-(t % 2) * 9 - 1])
    rows = {row.name: row.value for row in said}
    assert rows["latents of both scripts"] == 1


def test_absorption_of_first_letters_is_found_where_it_was_planted() -> None:
    tokens, acts = spoken(600, letters=1.0)
    for letters in (True, False):
        sae = reader(len(WORDS), letters=letters)
        said = report_card.report(sae, acts, tokens=tokens, decode=WORDS.__getitem__)
        rows = {row.name: row for row in said}
        assert "2 of 2 letters" in rows["absorption of first letters"].says
        value = rows["absorption of first letters"].value
        assert value < 0.05 if letters else value > 0.9


def test_what_cannot_be_measured_is_null_in_json() -> None:
    row = report_card.Row("words", "absorption", math.nan, 0, math.nan, "says", "silent")
    card = json.loads(files.pretty(any_sae.as_json(None, [row], {}, [])))
    assert [card["numbers"][0][key] for key in ("value", "low", "high")] == [None, 0, None]


def test_labels_are_read_from_a_latent() -> None:
    acts = draw(5, 80, 6, 4)
    names = ["sun" if i % 2 else "sea" for i in range(80)]
    acts[::2, :, 0] += 20
    sae = srclib.SAE(4, 4, srclib.ReLU()).eval()
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(4))
        sae.W_dec.copy_(torch.eye(4))
    rows = {row.name: row.value for row in report_card.report(sae, acts, labels=names)}
    assert rows["accuracy of one latent"] == 1 == rows["accuracy of the activations"]
    for bad in (names[:-1], ["sun"] * 80, ["sun", *["sea"] * 79]):
        with pytest.raises(DataError, match="labels"):
            report_card.report(sae, acts, labels=bad)


def test_seven_definitions_of_explained_variance() -> None:
    x = draw(1, 500, 4) + 3
    sae = srclib.SAE(4, 8, srclib.ReLU())
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_dec.copy_(x.mean(0))
    found, again = (report_card.explained(sae, x, unit) for unit in (1, 0.1))
    assert len(found) == 7
    assert found["share of variance, all dimensions together"] == pytest.approx(0, abs=1e-5)
    assert found["share of squares, not centred"] > 0.5, "the mean alone explains most squares"
    s, r = float(x.square().mean()), float((x - x.mean(0)).square().mean())
    for scale, each in ((1, found), (100, again)):  # d s - s^2, where s has the unit's square
        expected = 1 - 4 * scale * r / (4 * scale * s - (scale * s) ** 2)
        assert each.pop(report_card.UNIT) == pytest.approx(expected, rel=1e-4)
    assert again == pytest.approx(found, abs=1e-5), "a unit is no finding"


LM = ["--model", "lm", "--context", "20", "--text"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a language model, texts, labels, and an SAE in SAELens's layout."""
    monkeypatch.chdir(tmp_path)
    texts = [f"the {word} of row {i} is a word in a short text of words " * 4
             for i, word in enumerate(["cat", "dog", "sun", "sea"] * 10)]  # fmt: skip
    save_tiny(tmp_path / "lm", "gpt2")
    for name, rows in {"text": texts, "short": [*texts, "a"]}.items():
        lines = (json.dumps({"text": row}) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "labels.txt").write_text("\n".join(["sun", "sea"] * 20))
    np.save(tmp_path / "acts.npy", draw(2, 300, 16).numpy())
    write_saelens(srclib.SAE(16, 32, srclib.TopK(4), decoder_norm=1.0).eval(), tmp_path / "sae")
    return tmp_path


def test_report_as_text_and_page(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = [*LM, "text.jsonl"]
    assert main(["report", "sae", *lm, "--second", "sae", "--out", "card.html"]) == 0
    said = capsys.readouterr().out
    for each in ("loss recovered", "c_dec", "latents on one token", "saved card.html"):
        assert each in said
    page = (desk / "card.html").read_text("utf-8")
    assert "<h1>Report card: sae</h1>" in page and "http" not in page
    assert main(["report", "sae", *lm, "--labels", "labels.txt", "--siblings", "sae"]) == 0
    said = capsys.readouterr().out
    assert "accuracy of one latent" in said and "L0 where c_dec is least" in said
    assert main(["report", "sae", *LM, "short.jsonl", "--labels", "labels.txt"]) != 0
    assert "--context=20" in capsys.readouterr().err, "labels of other documents"
    assert main(["report", "sae", "--acts", "acts.npy"]) == 0
    assert "explained variance" in capsys.readouterr().out


def test_report_as_data(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((files.root() / "srclib/suite/report.schema.json").read_text("utf-8"))
    every = {"weights", "activations", "model", "words"}
    for given, groups in (([], {"weights"}), ([*LM, "text.jsonl"], every)):
        assert main(["report", "sae", *given, "--json"]) == 0
        card = json.loads(capsys.readouterr().out)
        jsonschema.validate(card, schema)
        assert {row["group"] for row in card["numbers"]} == groups


def test_the_other_commands(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "sae", *LM, "text.jsonl"]) == 0
    assert "layer" in capsys.readouterr().out
    assert main(["explore", "sae", *LM, "text.jsonl", "--latents", "5"]) == 0
    page = (desk / "explorer.html").read_text("utf-8")
    assert page.count("<summary><b>Latent ") == 5 and "Promotes" in page and "http" not in page
    capsys.readouterr()
    assert main(["convert", "sae", "ours"]) == 0 and os.path.exists("ours/sae.json")
    assert main(["convert", "ours", "theirs", "--to", "saelens"]) == 0
    for wrong in (["report", "nowhere"], ["doctor", "sae"], ["report", "sae", "--model", "lm"]):
        assert main(wrong) in (1, 2)
        assert capsys.readouterr().err.count("\n") == 1, "one line"
