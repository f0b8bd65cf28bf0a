"""Parameters are typed, closed and filled from a profile, however they arrive."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srclib.errors import NotebookError, ParameterError
from srclib.store import files
from srclib.suite import cells, params

SPEC = """
study = "toy"
title = "A toy"
title_ja = "玩具"
paper = "arXiv:0000.00000"
[profiles.smoke]
seconds = 1
disk_mb = 1
[profiles.laptop]
seconds = 60
disk_mb = 2.5
[profiles.paper]
seconds = 6000
disk_mb = 2.5
[parameters.d_sae]
type = "int"
help = "latents <of each SAE>"
above = 0
default = 50
[parameters.k_values]
type = "list[float]"
help = "SAE sparsities"
above = 0
max = "d_sae"
max_len = 4
smoke = [5]
laptop = [5, 11]
paper = [5, 11, 18]
[parameters.lr]
type = "float"
help = "learning rate"
above = 0
below = 1
default = 1e-3
[parameters.free]
type = "bool"
help = "leave decoder norms free"
default = true
[parameters.start]
type = "str"
help = "initial weights"
choices = ["random", "truth"]
default = "random"
"""

CELL = """profile: str = "laptop"  # size of the run
seed: int = 0  # root of all random numbers
device: str = "auto"  # where to compute
dtype: str = "auto"  # of language models
d_sae: int = None  # latents
k_values: list = None  # SAE sparsities
lr: float = None  # learning rate
free: bool = None  # leave decoder norms free
start: str = None  # initial weights
"""
RUNNING = 'P = parameters("toy", In, globals())'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("checkout")
    (root / "data" / "profiles").mkdir(parents=True)
    (root / "data" / "profiles" / "toy.toml").write_text(SPEC, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "root", lambda: root)
        yield root


@pytest.fixture(scope="module")
def spec(checkout: Path) -> params.Spec:
    return params.load_spec("toy")


def in_kernel(*sources: str) -> params.Parameters:
    """What a notebook sees whose executed cells are `sources`."""
    namespace: dict[str, object] = {}
    for source in sources:
        exec(source, namespace)
    return params.parameters("toy", ["", *sources, RUNNING], namespace)


def test_a_profile_fills_what_is_not_set(spec):
    assert spec.resolve({}).profile == "laptop"
    P = spec.resolve({"profile": "paper", "lr": None})
    assert (P.k_values, P.lr, P.overridden) == ((5.0, 11.0, 18.0), 1e-3, ())


def test_an_explicit_value_wins_and_counts_even_when_it_equals_the_default(spec):
    P = spec.resolve({"profile": "smoke", "k_values": [5.0], "seed": 0})
    assert P.overridden == ("seed", "k_values")
    assert P.key == spec.resolve({"profile": "smoke"}).key


def test_the_key_depends_on_every_value(spec):
    changes = {"seed": 1, "d_sae": 51, "k_values": [5], "lr": 0.5, "free": False, "start": "truth"}
    keys = {spec.resolve({name: value}).key for name, value in changes.items()}
    assert len(keys | {spec.resolve({}).key}) == len(changes) + 1


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("k_values", "[5, 11, 18]", (5.0, 11.0, 18.0)),
        ("k_values", "[1.8]", (1.8,)),
        ("lr", "1e-3", 1e-3),
        ("lr", ".5", 0.5),
        ("free", "false", False),
        ("free", "True", True),
        ("d_sae", "17", 17),
        ("d_sae", "18", 18),
        ("start", "truth", "truth"),
    ],
)
def test_text_that_is_a_literal_of_the_type_is_converted(spec, name, text, value):
    got = getattr(spec.resolve({"d_sae": 18, name: text}), name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("free", "no"),
        ("free", "0"),
        ("free", 0),
        ("free", "FALSE"),
        ("d_sae", 3.7),
        ("d_sae", 3.0),
        ("d_sae", True),
        ("d_sae", "007"),
        ("d_sae", "1_000"),
        ("d_sae", "7 "),
        ("d_sae", "٧"),
        ("d_sae", "9" * 5000),
        ("d_sae", [50]),
        ("lr", "nan"),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "1e999"),
        ("lr", 10**400),
        ("lr", ""),
        ("lr", "1e-3 # fast"),
        ("lr", "(0.5)"),
        ("lr", True),
        ("start", 3),
        ("k_values", "5"),
        ("k_values", 5),
        ("k_values", "(5, 11)"),
        ("k_values", "[5, '11']"),
        ("k_values", "[5, true]"),
        ("k_values", "[5, True]"),
        ("k_values", "[5, 11"),
        ("k_values", "[__import__('os')]"),
        ("k_values", ["5"]),
        ("k_values", {"a": 5}),
    ],
)
def test_everything_else_is_refused_by_name_and_type(spec, name, value):
    with pytest.raises(ParameterError, match=f"^{name}.*allowed is .*literal"):
        spec.resolve({name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, r"^seed=-1: allowed is int, 0 <= seed < 9223372036854775808"),
        ({"seed": 2**63}, "^seed=9223372036854775808"),
        ({"lr": 0}, r"^lr=0.0: allowed is float, 0 < lr < 1\. Change lr\."),
        ({"lr": 1}, "^lr=1.0"),
        ({"d_sae": 0}, "^d_sae=0"),
        ({"k_values": [5, 60]}, r"^k_values\[1\]=60.0.* d_sae \(50\).*Change k_values or d_sae"),
        ({"d_sae": 10}, r"^k_values\[1\]=11.0.* d_sae \(10\)"),
        ({"k_values": []}, r"^k_values=\[\].*1 to 4 elements"),
        ({"k_values": [1, 2, 3, 4, 5]}, "^k_values=.*1 to 4 elements"),
        ({"start": "zero"}, "^start='zero': allowed is str, one of random, truth"),
        ({"profile": "full"}, "^profile='full': allowed is str, one of smoke, laptop, paper"),
    ],
)
def test_a_value_out_of_range_names_the_range(spec, given, message):
    with pytest.raises(ParameterError, match=message):
        spec.resolve(given)


def test_an_unknown_name_is_refused_with_the_nearest_valid_one(spec):
    with pytest.raises(ParameterError, match=r"unknown parameter k_value=3.*'k_values'"):
        spec.resolve({"k_value": 3})


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0, 1, exclude_min=True, exclude_max=True), st.lists(st.integers(1, 50), max_size=4)
)
def test_text_and_value_give_the_same_parameters(spec, lr, k_values):
    k_values = k_values or [1]
    native = spec.resolve({"lr": lr, "k_values": k_values})
    text = spec.resolve({"lr": repr(lr), "k_values": repr(k_values)})
    assert text.values == native.values
    assert text.key == native.key
    # What a run wrote down reproduces it.
    assert spec.resolve(json.loads(json.dumps(native.values))).key == native.key


def test_parameters_cannot_be_changed(spec):
    P = spec.resolve({})
    with pytest.raises(AttributeError, match="k_values"):
        P.k_values = (1,)
    with pytest.raises(AttributeError, match="lr"):
        del P.lr


def test_a_misspelt_attribute_names_the_nearest(spec):
    with pytest.raises(AttributeError, match=r"'kvalues'.*'k_values'"):
        spec.resolve({}).kvalues  # noqa: B018


def test_parameters_survive_copy_and_pickle(spec):
    P = spec.resolve({"lr": 0.5})
    for other in (copy.deepcopy(P), pickle.loads(pickle.dumps(P))):
        assert (other.values, other.overridden, other.key) == (P.values, P.overridden, P.key)


def test_the_table_is_escaped_and_says_who_set_what(spec):
    table = spec.resolve({"lr": 0.5})._repr_html_()
    assert "&lt;of each SAE&gt;" in table
    assert "<td>lr</td><td>0.5</td><td>set by the caller</td>" in table
    assert "<td>free</td><td>True</td><td>profile laptop</td>" in table


def test_a_notebook_without_injection_runs_the_laptop_profile(checkout):
    P = in_kernel(CELL)
    assert (P.profile, P.seed, P.overridden) == ("laptop", 0, ())


def test_injected_values_are_read_from_the_cells(checkout):
    P = in_kernel(
        CELL, '# Parameters\nprofile = "smoke"\nk_values = "[7]"\nseed = 0\nfree = "false"'
    )
    assert (P.profile, P.k_values, P.free) == ("smoke", (7.0,), False)
    assert P.overridden == ("seed", "k_values", "free")


def test_a_literal_written_into_the_cell_counts_as_set(checkout):
    assert in_kernel(CELL.replace("lr: float = None", "lr: float = 0.5")).overridden == ("lr",)
    assert in_kernel(CELL.replace("seed: int = 0", "seed: int = 3")).overridden == ("seed",)
    assert in_kernel(CELL.replace('"laptop"', '"smoke"')).profile == "smoke"


def test_injected_none_means_not_set(checkout):
    edited = CELL.replace("lr: float = None", "lr: float = 0.5")
    assert in_kernel(edited, "# Parameters\nlr = None").lr == 1e-3


def test_running_the_parameters_cell_again_drops_the_injection(checkout):
    assert in_kernel(CELL, "# Parameters\nlr = 0.5", CELL).overridden == ()


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("kk = 3", "unknown parameter kk=3"),
        ("lr = float('nan')", "allowed is `name = literal`"),
        ('free = "maybe"', "^free='maybe'"),
        ("seed = 3.7", "^seed=3.7: allowed is int"),
        ("lr = {'a': 1}", "^lr={'a': 1}"),
        ("lr = max(0.1, 0.2)", "allowed is `name = literal`"),
        ("lr = seed = 0", "allowed is `name = literal`"),
    ],
)
def test_bad_injection_stops_before_compute(checkout, injected, message):
    with pytest.raises(ParameterError, match=message):
        in_kernel(CELL, f"# Parameters\n{injected}")


def test_a_parameter_changed_in_between_is_noticed(checkout):
    with pytest.raises(ParameterError, match=r"^lr=0.5: allowed is None, as set"):
        in_kernel(CELL, "lr = 0.5")


def test_other_cells_do_not_count(checkout):
    assert in_kernel(CELL, "zzz = 3", "x: int = 4").overridden == ()
    with pytest.raises(ParameterError, match="no parameters cell"):
        in_kernel("seed: int = 0")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (CELL + "extra: int = None", "extra is only in the cell"),
        (CELL.replace("lr: float = None", ""), "lr is missing in the cell"),
        (CELL.replace("lr: float", "lr: int"), "lr is annotated int, the file says float"),
    ],
)
def test_cell_and_profile_file_are_held_against_each_other(checkout, cell, message):
    with pytest.raises(ParameterError, match=rf"toml differ: .*{message}"):
        in_kernel(cell)


@pytest.mark.parametrize("line", ["total = 3", "total: int = 2 * 3", "import os", "total: int"])
def test_the_cell_holds_annotated_literals_only(checkout, line):
    with pytest.raises(ParameterError, match=r"line 10.*allowed is `name: type = literal"):
        in_kernel(CELL + line)


def notebook(path: Path, *sources: str) -> Path:
    metadata = {"tags": ["parameters"]}
    cells = [{"cell_type": "code", "metadata": metadata, "source": [s]} for s in sources]
    cells.append({"cell_type": "code", "metadata": {}, "source": "x = 1"})
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def test_read_notebook_gives_annotation_and_default(tmp_path, spec):
    cell = cells.parameters_cell(notebook(tmp_path / "toy.ipynb", CELL))
    assert cell["k_values"] == ("list", None)
    assert cell["profile"] == ("str", "laptop")
    spec.check_cell(cell)


@pytest.mark.parametrize("sources", [(), (CELL, CELL)])
def test_read_notebook_wants_one_tagged_cell(tmp_path, sources):
    with pytest.raises(NotebookError, match=f"toy.ipynb: {len(sources)} code cells"):
        cells.parameters_cell(notebook(tmp_path / "toy.ipynb", *sources))


def test_read_notebook_names_a_file_that_is_none(tmp_path):
    (tmp_path / "a.ipynb").write_text("profile: str", encoding="utf-8")
    for name in ("a.ipynb", "missing.ipynb"):
        with pytest.raises(NotebookError, match=f"^{name}: cannot be read"):
            cells.parameters_cell(tmp_path / name)
    with pytest.raises(NotebookError, match="line 1"):
        cells.parameters_cell(notebook(tmp_path / "b.ipynb", "profile: str = "))


def test_studies_are_discovered_and_an_unknown_one_names_them(checkout):
    assert params.studies() == ["toy"]
    with pytest.raises(ParameterError, match=r"^study='../toy': allowed is toy"):
        params.load_spec("../toy")


MUTATIONS = [
    ("", "mystery = 1", "unknown key 'mystery'"),
    ('study = "toy"', 'study = "other"', "study='other': allowed is toy"),
    ('title = "A toy"', "", "title=''"),
    ("[profiles.smoke]", "[profiles.tiny]", "profile='tiny'"),
    ("[profiles.laptop]", "[profiles.full]", "profile='laptop': allowed is str, one of"),
    ("seconds = 60\n", "", "seconds=''"),
    ("seconds = 60\n", 'seconds = "60"\n', "profiles.laptop: seconds='60'"),
    ("smoke = [5]\n", "", "k_values: no value for smoke"),
    ("smoke = [5]\n", 'smoke = "five"\n', "k_values='five'"),
    ("paper = [5, 11, 18]", "paper = [5, 11, 180]", r"k_values\[2\]=180.0"),
    ('max = "d_sae"', 'max = "d_sea"', "k_values.max='d_sea'"),
    ('max = "d_sae"', 'max = "free"', "k_values.max='free'"),
    ('type = "bool"', 'type = "boolean"', "free: type='boolean'"),
    ('help = "learning rate"\n', "", "lr: help=''"),
    ("below = 1\n", "belwo = 1\n", "unknown key 'belwo'.*'below'"),
    ("[parameters.lr]", "[parameters.seed]", "parameters.seed: the name is reserved"),
    ("[parameters.lr]", "[parameters.values]", "parameters.values: the name is reserved"),
    ("[parameters.lr]", "[parameters.lr", "line"),
]


@pytest.mark.parametrize(("old", "new", "message"), MUTATIONS)
def test_a_fault_in_the_profile_file_is_named(tmp_path, monkeypatch, old, new, message):
    assert old in SPEC
    folder = tmp_path / "data" / "profiles"
    folder.mkdir(parents=True)
    (folder / "toy.toml").write_text(
        SPEC.replace(old, new, 1) if old else f"{new}\n{SPEC}", "utf-8"
    )
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    with pytest.raises(ParameterError, match=f"^data/profiles/toy.toml: .*{message}"):
        params.load_spec("toy")
