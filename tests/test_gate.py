"""The gate lets a finished, clean notebook pass and refuses each fault by cell."""

from __future__ import annotations

import base64
import copy
import sysconfig
import tempfile
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
from nbformat import NotebookNode

from srclib.errors import DataError, NotebookError
from srclib.suite.gate import gate

ROOT = Path("/srv/some checkout")
RECORD = {
    "study": "toy",
    "profile": "laptop",
    "params": {"profile": "laptop"},
    "claims": [
        {
            "id": "toy.a",
            "says": "s",
            "where": "w",
            "paper_value": "1",
            "measured": {"k=1": 1.0, "k=2": None},
            "interval": {"k=1": [0.5, 1.5]},
            "n_seeds": 3,
            "scale": "reduced",
            "verdict": "replicated",
            "reason": "Holds.",
        }
    ],
    "provenance": {"commit": None},
}


def executed(*sources: str) -> NotebookNode:
    """A notebook as papermill leaves it: code cells with these sources, then the result."""
    cells = [nbformat.v4.new_markdown_cell("# Title")]
    for count, source in enumerate([*sources, "ledger.verdicts()"], start=1):
        cell = nbformat.v4.new_code_cell(source, execution_count=count)
        cell.metadata["papermill"] = {"status": "completed", "exception": False}
        cells.append(cell)
    cells[-1].outputs = [shown({"application/json": copy.deepcopy(RECORD)})]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["papermill"] = {
        "exception": None,
        "input_path": "/home/somebody/n.ipynb",
        "output_path": "/home/somebody/out.ipynb",
        "environment_variables": {"A": "/home/somebody"},
        "parameters": {"profile": "laptop"},
    }
    return notebook


def shown(data: dict[str, object]) -> NotebookNode:
    return nbformat.v4.new_output("display_data", data=data)


def printed(text: str) -> NotebookNode:
    return nbformat.v4.new_output("stream", text=text)


def test_a_clean_notebook_passes_and_loses_the_paths_of_papermill() -> None:
    notebook = executed("x = 1")
    notebook.cells.append(nbformat.v4.new_code_cell("  \n"))  # never run, and nothing to run
    assert gate(notebook, ROOT) == RECORD
    assert "somebody" not in nbformat.writes(notebook)
    assert gate(notebook, ROOT) == RECORD


@pytest.mark.parametrize("status", ["pending", "running", "failed", None])
def test_an_unfinished_cell_is_named(status: str | None) -> None:
    notebook = executed("x = 1", "\nslow(x)\nmore()")
    notebook.cells[2].metadata["papermill"]["status"] = status
    with pytest.raises(NotebookError, match=r"cell 2 \(`slow\(x\)`\).*" + repr(status)):
        gate(notebook, ROOT)


def test_a_cell_that_was_never_counted_did_not_run() -> None:
    notebook = executed("x = 1")
    notebook.cells[1].execution_count = None
    with pytest.raises(NotebookError, match="cell 1"):
        gate(notebook, ROOT)


def test_an_error_output_is_refused_although_the_cell_is_completed() -> None:
    notebook = executed("sys.exit(0)")
    error = {"ename": "SystemExit", "evalue": "0", "traceback": []}
    notebook.cells[1].outputs = [nbformat.v4.new_output("error", **error)]
    with pytest.raises(NotebookError, match=r"cell 1 .*SystemExit: 0"):
        gate(notebook, ROOT)


def test_an_exception_in_the_metadata_is_refused() -> None:
    notebook = executed("x = 1")
    notebook.metadata.papermill["exception"] = True
    with pytest.raises(NotebookError, match="exception"):
        gate(notebook, ROOT)


PLACES = ["output", "html", "source", "parameters", "cell metadata"]


def put(notebook: NotebookNode, place: str, text: str) -> None:
    cell = notebook.cells[1]
    match place:
        case "output":
            cell.outputs = [printed(f"it is {text}, really")]
        case "html":
            cell.outputs = [shown({"text/html": f"<b>{text}</b>"})]
        case "source":
            cell.source = f"token = '{text}'"
        case "parameters":
            notebook.metadata.papermill["parameters"] = {"name": [text]}
        case "cell metadata":
            cell.metadata["note"] = {text: 1}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["MY_TOKEN", "aws_secret_thing", "API_KEY", "db_password"])
def test_the_values_of_secret_variables_are_found_and_not_repeated(
    place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct-horse-battery"
    notebook = executed("x = 1")
    put(notebook, place, secret)
    assert gate(copy.deepcopy(notebook), ROOT) == RECORD  # harmless while no variable holds it
    monkeypatch.setenv(name, secret)
    with pytest.raises(NotebookError, match=name) as refused:
        gate(notebook, ROOT)
    assert secret not in str(refused.value)


@pytest.mark.parametrize("spelling", ["base64", "hex", "quoted"])
def test_other_spellings_of_a_variable_are_found(
    spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct/horse battery"
    data = secret.encode()
    spelt = {
        "base64": base64.b64encode(data).decode(),
        "hex": data.hex(),
        "quoted": quote(secret, ""),
    }
    monkeypatch.setenv("MY_TOKEN", secret)
    notebook = executed("x = 1")
    put(notebook, "output", spelt[spelling])
    with pytest.raises(NotebookError, match="MY_TOKEN") as refused:
        gate(notebook, ROOT)
    assert secret not in str(refused.value) and spelt[spelling] not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "token = words[0]",
     "password: str", "192.168.1.1", "the key is k=60", "sk-learn", "hf_model", "l0.toy.low_l0"],
)  # fmt: skip
def test_hashes_and_words_are_no_secrets(text: str) -> None:
    notebook = executed("x = 1")
    put(notebook, "output", text)
    assert gate(notebook, ROOT) == RECORD


def test_short_values_of_secret_variables_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "1")
    assert gate(executed("x = 1"), ROOT) == RECORD


@pytest.mark.parametrize(
    "token",
    [
        "hf_" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2" * 9,
        "AKIA" + "ABCD" * 4,
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        "gho_" + "a1B2" * 9,
        "glpat-" + "a1B2c" * 4,
        "xoxb-123456789012-123456789012-" + "a1B2" * 6,
        "sk-proj-" + "a1B2" * 10,
        "sk_live_" + "a1B2" * 6,
        "npm_" + "a1B2" * 9,
        "pypi-AgEIcHlwaS5vcmc" + "a1B2" * 20,
        "AIza" + "a1B2c" * 7,
        "SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V",
        "https://somebody:a1B2c3D4@example.org/x",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_token_shapes_are_found(place: str, token: str) -> None:
    notebook = executed("x = 1")
    put(notebook, place, token)
    with pytest.raises(NotebookError, match="secret") as refused:
        gate(notebook, ROOT)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    "path",
    [
        f"{ROOT}/build/x.json",
        f"{Path.home()}/.cache",
        f"{tempfile.gettempdir()}/ipykernel_12/3.py:1",
        f"{sysconfig.get_path('purelib')}/pytest",
        "/home/somebody/x",
        "file:///Users/somebody/x",
        "C:\\Users\\somebody",
    ],
)
@pytest.mark.parametrize("place", ["output", "html", "parameters", "cell metadata"])
def test_paths_of_this_machine_are_refused(place: str, path: str) -> None:
    notebook = executed("x = 1")
    put(notebook, place, path)
    with pytest.raises(NotebookError, match="a path of this machine"):
        gate(notebook, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "build/toy/laptop",
        "https://example.org/home/page",
        "square/root and mean/tmp2",
        f"{ROOT}s",
        "/usr/bin/env",
        "a / b",
    ],
)
def test_other_texts_are_no_paths_of_this_machine(text: str) -> None:
    notebook = executed("x = 1")
    put(notebook, "output", text)
    assert gate(notebook, ROOT) == RECORD


@pytest.mark.parametrize(
    "given", ["/home/ada/a model", ["/data/x", "/home/ada/a model"], "/home/ada/a model/{step:07d}"]
)
def test_paths_that_the_caller_gave_may_be_shown(given: object) -> None:
    notebook = executed("P")
    notebook.cells[1].outputs = [shown({"text/plain": "model_name='/home/ada/a model/0000020'"})]
    with pytest.raises(NotebookError, match="a path of this machine"):
        gate(copy.deepcopy(notebook), ROOT)
    assert gate(notebook, ROOT, {"profile": "paper", "model_name": given}) == RECORD
    notebook.cells[1].outputs.append(shown({"text/plain": "/home/ada/another"}))
    with pytest.raises(NotebookError, match="'/home/ada'"):
        gate(notebook, ROOT, {"model_name": given})


def test_bitmaps_are_not_searched() -> None:
    notebook = executed("x = 1")
    notebook.cells[1].outputs = [shown({"image/png": "AKIA" + "ABCD" * 4})]
    assert gate(notebook, ROOT) == RECORD


def test_too_much_output_names_the_largest_cell() -> None:
    notebook = executed("x = 1", "print(many)")
    notebook.cells[2].outputs = [printed("x" * 21_000_000)]
    with pytest.raises(NotebookError, match=r"21 MB.*cell 2 \(`print\(many\)`\)"):
        gate(notebook, ROOT)


def test_the_limit_of_output_is_where_it_is_said_to_be() -> None:
    notebook = executed("print(many)")
    notebook.cells[1].outputs = [printed("x" * 19_900_000)]
    assert gate(notebook, ROOT) == RECORD
    notebook.cells[1].outputs = [printed("x" * 20_010_000)]
    with pytest.raises(NotebookError, match=r"allowed are 20 MB"):
        gate(notebook, ROOT)


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_result(count: int) -> None:
    notebook = executed("x = 1")
    other = shown({"application/json": {"study": "not a record"}})
    listed = shown({"application/json": [{"study": 1}]})
    notebook.cells[-1].outputs = [other, listed, *notebook.cells[-1].outputs * count]
    with pytest.raises(NotebookError, match=rf"{count} results"):
        gate(notebook, ROOT)


def test_a_malformed_result_is_refused() -> None:
    notebook = executed("x = 1")
    record = notebook.cells[-1].outputs[0].data["application/json"]
    record["claims"][0]["verdict"] = "confirmed"
    with pytest.raises(DataError, match=r"toy\.a: verdict"):
        gate(notebook, ROOT)
