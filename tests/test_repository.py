"""The files around the code: one truth for versions, commands that exist, clean sources."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import notebook_lint
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from srclib.store import fingerprint
from srclib.suite import cells, params

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
COMMANDS = [
    "python3 -m pip install nox && python3 -m nox -s book",
    "python3 -m pip install nox && python3 -m nox -s tests",
    "pipx run nox -s book",
    "pipx run nox -s tests",
]
MATHJAX = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"  # 3.2.2, from npm


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return tomllib.loads(text("pyproject.toml"))["project"]


def requirements() -> list[Requirement]:
    """Everything that a run, a test or the book needs: what `all` names."""
    extras = project()["optional-dependencies"]
    rows = [row for name, rows in extras.items() if name not in ("all", "lab") for row in rows]
    return [Requirement(row) for row in project()["dependencies"] + rows]


def pins() -> dict[str, str]:
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    found = [line.partition("==") for line in lines]
    assert all(name and separator and version for name, separator, version in found)
    names = [canonicalize_name(name) for name, _, _ in found]
    assert len(set(names)) == len(names), "a package is pinned twice"
    return dict(zip(names, [version for _, _, version in found], strict=True))


def sessions() -> list[str]:
    """The functions of noxfile.py that carry `@nox.session`; nox itself is not needed."""
    return [
        node.name
        for node in ast.parse(text("noxfile.py")).body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(each) for each in node.decorator_list)
    ]


def test_conda_users_get_the_same_versions() -> None:
    environment = yaml.safe_load(text("environment.yml"))
    pip = {"pip": ["-c constraints.txt", "-e .[all]"]}
    assert environment["dependencies"] == ["python=3.11", "pip", pip]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    version = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_dependency_says_why_it_is_there(requirement: Requirement) -> None:
    assert re.search(
        rf'"{re.escape(str(requirement.name))}[=><].*",\s+# \S', text("pyproject.toml")
    )


def test_all_extras_are_in_all() -> None:
    extras = project()["optional-dependencies"]
    (everything,) = (Requirement(row) for row in extras.pop("all"))
    assert everything.name == project()["name"]
    assert everything.extras == set(extras) - {"lab"}  # JupyterLab is nobody's dependency


def test_torch_is_first_and_without_a_local_suffix() -> None:
    assert next(iter(pins())) == "torch"
    assert not [version for version in pins().values() if "+" in version]


@pytest.mark.parametrize(
    ("name", "next_version"),
    [("jupyter-book", "2.0.0"), ("sphinx-book-theme", "1.3.0"), ("pydata-sphinx-theme", "0.17.1")],
)
def test_engines_that_break_the_book_are_excluded(name: str, next_version: str) -> None:
    (requirement,) = (each for each in requirements() if each.name == name)
    assert not requirement.specifier.contains(next_version)


def test_pre_commit_uses_the_pinned_tools() -> None:
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    versions = {repo["hooks"][0]["id"]: repo["rev"].lstrip("v") for repo in hooks}
    assert versions == {"ruff": pins()["ruff"], "nbstripout": pins()["nbstripout"]}


def test_the_version_is_told_once() -> None:
    version = project()["version"]
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    assert re.search(rf"^## {re.escape(version)}\b", text("CHANGELOG.md"), flags=re.M)


def test_nox_sessions() -> None:
    first, rest = "install lint types tests long smoke run lab book browser", "verify bench faults"
    last = "scale estimates sabotage seeds coverage lock"
    assert sessions() == [*first.split(), "conformance", *rest.split(), *last.split()]
    assert 'nox.options.sessions = ["lint", "types", "tests"]' in text("noxfile.py")


def always_run(path: Path) -> list[str]:
    """The tests of a file of which nothing is left to another session."""
    body = ast.parse(path.read_text("utf-8")).body
    tests = [node for node in body if isinstance(node, ast.FunctionDef)]
    marks = {test.name: " ".join(map(ast.unparse, test.decorator_list)) for test in tests}
    apart = re.compile(r"mark\.(long|scale)\b")
    return [name for name in marks if name.startswith("test_") and not apart.search(marks[name])]


def test_the_session_tests_runs_a_part_of_every_file() -> None:
    paths = list(ROOT.glob("tests/**/test_*.py"))
    assert len(paths) > 50 and not [path.name for path in paths if not always_run(path)]


@pytest.mark.parametrize("name", ["README.md", "README.ja.md", "book/index.md"])
def test_the_two_commands_come_first(name: str) -> None:
    places = [text(name).index(command) for command in COMMANDS]
    assert places == sorted(places)
    assert places[0] == text(name).index("python3 -m"), "another command stands before them"


@pytest.mark.parametrize("name", ["README.md", "README.ja.md", "CONTRIBUTING.md", ".ci/run"])
def test_documented_sessions_exist(name: str) -> None:
    assert set(re.findall(r"nox -s (\w+)", text(name))) <= set(sessions())


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*.yml")), ids=lambda p: p.name)
def test_workflows_can_be_read_and_call_what_exists(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    for command in commands:
        assert set(re.findall(r"nox -s (\w+)", command)) <= set(sessions())
        for script in re.findall(r"(?:^|python3 )([\w./]+/[\w.]+)(?: |$)", command):
            assert (ROOT / script).is_file(), script


def test_ci_ends_within_thirty_minutes() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    limits = [
        int(seconds) for seconds in re.findall(r"^limited (\d+) ", text(".ci/run"), flags=re.M)
    ]
    assert limits and sum(limits) <= 30 * 60
    assert COMMANDS[1] in text(".ci/run"), "it starts with the command of the README"


def test_both_readmes_train_with_the_same_code() -> None:
    assert example("README.md") == example("README.ja.md")


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = example("README.md").replace("n_steps=500", "n_steps=20")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    again = names["srclib"].load_sae(tmp_path / "my_sae")
    assert again(names["x"]).x_hat.equal(names["sae"](names["x"]).x_hat)


def example(name: str) -> str:
    """The Python block of a README without comments."""
    (block,) = re.findall(r"```python\n(.*?)```", text(name), flags=re.S)
    return ast.unparse(ast.parse(block))


def test_mathjax_is_the_released_file() -> None:
    folder = ROOT / "book" / "_static" / "mathjax"
    assert hashlib.sha256((folder / "tex-svg.js").read_bytes()).hexdigest() == MATHJAX
    assert "Apache License" in (folder / "LICENSE").read_text("utf-8")


def test_nothing_generated_or_large_is_committed() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = listed.stdout.splitlines()
    assert "pyproject.toml" in names
    generated = ("build/", "book/_build/", "book/_executed/", ".nox/")
    refused = (".pt", ".pkl", ".pickle", ".pyc", ".html")
    for name in names:
        assert not name.startswith(generated), name
        assert not name.endswith(refused), name
        path = ROOT / name
        if path.is_file() and name != "book/_static/mathjax/tex-svg.js":
            assert path.stat().st_size < 500_000, f"{name} is larger than 500 kB"


def layers() -> dict[str, int]:
    """The ladder as CONTRIBUTING.md shows it: room -> floor."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", text("CONTRIBUTING.md"), flags=re.M)
    return {name: int(layer) for layer, names in rows for name in re.findall(r"`([a-z_]+)`", names)}


def test_imports_point_down_the_ladder() -> None:
    """One floor may use those below it, and its own; what runs counts, not what types name."""
    ladder = layers()
    assert set(ladder) == {room(name) for name in fingerprint.all_modules()} - {"", "__main__"}
    for name in fingerprint.all_modules():
        if name.startswith("srclib.") and room(name) != "__main__":
            for other in fingerprint.imports(name) - {"srclib"}:
                assert ladder[room(other)] <= ladder[room(name)], f"{name} imports {other}"


def room(name: str) -> str:
    return name.partition(".")[2].split(".")[0]


def test_methods_never_import_each_other() -> None:
    for name in fingerprint.all_modules():
        if name.startswith("srclib.methods."):
            method = name.split(".")[2]
            others = fingerprint.imports(name) - {"srclib.methods"}
            inside = {each.split(".")[2] for each in others if each.startswith("srclib.methods.")}
            assert inside <= {method}, f"{name} imports another paper's method"


def test_studies_are_discovered_whole() -> None:
    notebooks = [path.stem for path in NOTEBOOKS]
    ledgers = sorted(path.stem for path in ROOT.glob("data/claims/*.toml"))
    assert params.studies() == notebooks == ledgers


def test_no_two_figures_share_a_name() -> None:
    names = [name for path in NOTEBOOKS for name in notebook_lint.figure_names(path)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_notebook(path: Path) -> None:
    assert notebook_lint.problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_cell_agrees_with_the_profile_file(path: Path) -> None:
    declared = cells.parameters_cell(path)
    params.load_spec(path.stem).check_cell(declared)
    unset = {name: each.default for name, each in declared.items()}
    assert {name: unset.pop(name) for name in params.COMMON} == params.COMMON
    assert set(unset.values()) <= {None}, "a default here would hide the profile's value"


SOUND = [
    ("markdown", "# Title\n\n```bash\n# no heading\n```", {}),
    (
        "code",
        'profile: str = "laptop"  # size\nk: int = None  # how many',
        {"tags": ["parameters"]},
    ),
    ("code", "import srclib\n\nP = srclib.parameters('x', In, globals())", {}),
    ("code", "values = [k for k in P.k_values]\nsns.set_theme()", {}),
    (
        "code",
        "fig, ax = plt.subplots()\nax.plot(values)",
        {
            "tags": ["hide-input"],
            "mystnb": {"image": {"alt": "a"}, "figure": {"caption": "**A.** c", "name": "fig-x-a"}},
        },
    ),
    (
        "code",
        "plt.plot(values)\nledger.record('a', values)",
        {"mystnb": {"image": {"alt": "a"}, "figure": {"caption": "**A.** c", "name": "fig-x-b"}}},
    ),
]


def write_notebook(path: Path, cells: list[tuple[str, str, dict[str, Any]]]) -> Path:
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook = nbformat.v4.new_notebook(cells=[make[k](s, metadata=m) for k, s, m in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    return path


def test_the_lint_accepts_a_sound_notebook(tmp_path: Path) -> None:
    assert notebook_lint.problems(write_notebook(tmp_path / "x.ipynb", SOUND)) == []


@pytest.mark.parametrize(
    ("added", "named"),
    [
        (("code", "print(k)", {}), "bare parameter k"),
        (("code", "!ls", {}), "no plain Python"),
        (("code", "%matplotlib inline", {}), "no plain Python"),
        (("code", "get_ipython().run_line_magic('x', '')", {}), "magic"),
        (("code", "class A:\n    pass", {}), "the class A"),
        (("code", "open('/home/me/x.npy')", {}), "absolute path"),
        (("code", "open('data/x.csv')", {}), "depends on the working directory"),
        (("code", "plt.plot([1, 2])", {}), "mystnb.image.alt"),
        (("code", "figures.cosines(x)", {"mystnb": {"image": {"alt": "a"}}}), "figure.caption"),
        (
            ("code", "plt.plot([1])", {"mystnb": {"figure": {"caption": "c", "name": "fig-x-d"}}}),
            "must begin with its finding",
        ),
        (("code", "plt.plot([1, 2])", {"tags": ["x"]}), "only draws; tag it 'hide-input'"),
        (("code", "\n".join(["x = 1"] * 41), {}), "41 lines"),
        (("code", "k = 5", {"tags": ["injected-parameters"]}), "papermill"),
        (("code", "n: int = 1  # n", {"tags": ["parameters"]}), "exactly one cell"),
        (("markdown", "# Another title", {}), "H1"),
    ],
)
def test_the_lint_finds_a_planted_fault(
    tmp_path: Path, added: tuple[str, str, dict[str, Any]], named: str
) -> None:
    found = notebook_lint.problems(write_notebook(tmp_path / "x.ipynb", [*SOUND, added]))
    assert any(named in problem for problem in found), found


def test_the_lint_finds_a_measurement_in_a_hidden_cell(tmp_path: Path) -> None:
    words = {"image": {"alt": "a"}, "figure": {"caption": "**A.** c", "name": "fig-x-c"}}
    drawn = ("code", "scores = [1]\nplt.plot(scores)", {"tags": ["hide-input"], "mystnb": words})
    claim = ("code", "ledger.record('b', scores)", {})
    found = notebook_lint.problems(write_notebook(tmp_path / "x.ipynb", [*SOUND, drawn, claim]))
    assert len(found) == 1 and "assigns scores, which a claim reads" in found[0]
    anew = ("code", "scores = [2]", {})
    cells = [*SOUND, drawn, anew, claim]
    assert notebook_lint.problems(write_notebook(tmp_path / "x.ipynb", cells)) == []


def test_the_lint_finds_leftovers_of_a_run(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "x.ipynb", SOUND)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].execution_count = 3
    notebook.cells[3]["id"] = notebook.cells[2]["id"]
    notebook.metadata.kernelspec.name = "mine"
    notebook.metadata["papermill"] = {}
    path.write_text(nbformat.v4.writes(notebook), "utf-8")
    found = " ".join(notebook_lint.problems(path))
    for named in ("execution count", "occurs 2 times", "kernel 'mine'", "metadata of papermill"):
        assert named in found
