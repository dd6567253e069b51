"""The house rules that a machine can check: sizes, layers, and the places that must know every runtime."""

import ast
import re
import statistics
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.runtimes import discover

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "agent").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the end of the body; the docstring is not counted, for words about a contract are welcome."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0)


def all_functions() -> dict[str, Function]:
    return {
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}": function
        for path in MODULES
        for function in functions(ast.parse(path.read_text()))
    }


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_functions_are_short() -> None:
    """The median function has at most 10 lines, nine in ten have at most 30, none has more than 60."""
    lengths = {name: length(function) for name, function in all_functions().items()}
    ordered = sorted(lengths.values())
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    assert statistics.median(ordered) <= 10
    assert ordered[len(ordered) * 9 // 10] <= 30


def test_modules_are_short() -> None:
    """No module has more than 400 lines."""
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: lines for path, lines in sizes.items() if lines > 400} == {}


def positional(function: Function) -> list[ast.arg]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    return named[1:] if named and named[0].arg in ("self", "cls") else named


def test_functions_take_few_parameters() -> None:
    """No function takes more than 5 parameters, `self` not counted."""
    counts = {name: len(positional(f)) + len(f.args.kwonlyargs) for name, f in all_functions().items()}
    assert {name: count for name, count in counts.items() if count > 5} == {}


def is_boolean(argument: ast.arg) -> bool:
    return isinstance(argument.annotation, ast.Name) and argument.annotation.id == "bool"


def test_booleans_are_named_at_the_call() -> None:
    """A boolean parameter is keyword-only, so that a call says what it switches; the only one is a value, no switch."""
    several = {name: f for name, f in all_functions().items() if len(positional(f)) > 1}
    found = {name: [a.arg for a in positional(f) if is_boolean(a)] for name, f in several.items()}
    assert {name: arguments for name, arguments in found.items() if arguments} == {}


def imports_of(path: Path) -> set[Path]:
    """The modules of ours that it imports, wherever in it: a late import ties two modules as well as one at the top."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {(ROOT / name.replace(".", "/")).with_suffix(".py") for name in names}
    return found & set(MODULES) - {path}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither directly nor by way of others: taking out those without imports again and again leaves none."""
    left = {path: imports_of(path) for path in MODULES}
    while done := {path for path, imported in left.items() if not imported & left.keys()}:
        left = {path: imported for path, imported in left.items() if path not in done}
    assert sorted(str(path.relative_to(ROOT)) for path in left) == []


def test_every_module_says_what_it_is() -> None:
    """Every module begins with a docstring."""
    silent = [str(path.relative_to(ROOT)) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_one_module_starts_processes() -> None:
    """Only agent/programs.py imports subprocess."""
    pattern = re.compile(r"^\s*(import|from) subprocess\b", re.MULTILINE)
    assert [path.name for path in MODULES if pattern.search(path.read_text())] == ["programs.py"]


def test_one_module_opens_network_sockets() -> None:
    """Sockets elsewhere are unix sockets, each made as one; connections by other means are made nowhere."""
    made = re.compile(r"socket\.socket\(([^)]*)\)")
    others = re.compile(r"\b(create_connection|create_server|socketpair|fromfd|AF_INET6?|AF_PACKET|AF_NETLINK)\b")
    families = {path: made.findall(path.read_text()) for path in MODULES}
    unix = {path.name for path, found in families.items() if found and all("AF_UNIX" in each for each in found)}
    assert {path.name for path, found in families.items() if found} == {*unix, "_transport.py"}
    assert [path.name for path in MODULES if others.search(path.read_text())] == ["_transport.py"]


def test_one_package_renames_files() -> None:
    """Only agent/files puts a file in another's place."""
    pattern = re.compile(r"\b(os\.(rename|replace|renames|link)|renameat2)\(")
    assert {path.parent.name for path in MODULES if pattern.search(path.read_text())} == {"files"}


@pytest.mark.parametrize(
    "name", ["agent/__init__.py", *(str(p.relative_to(ROOT)) for p in MODULES if p.stem != "__init__")]
)
def test_every_module_has_a_layer(name: str) -> None:
    """Every top-level module stands in a layer of pyproject.toml, and the core's are barred from the machine."""
    layers = " | ".join(pyproject()["tool"]["importlinter"]["contracts"][0]["layers"])
    top = Path(name).parts[1].removesuffix(".py")
    assert top in {word.strip(" ()") for word in layers.split("|")} | {"__init__", "__main__"}


def test_the_unit_lets_every_runtime_write_where_it_owns() -> None:
    """Each path a runtime owns lies in a directory that ReadWritePaths= of the unit names."""
    unit = (ROOT / "systemd" / "mirror-agent.service").read_text()
    writable = [
        word.lstrip("-") for line in re.findall(r"^ReadWritePaths=(.*)$", unit, re.MULTILINE) for word in line.split()
    ]
    owned = [path for runtime in discover() for path in runtime.owns]
    assert [path for path in owned if not any(f"{path}/".startswith(f"{parent}/") for parent in writable)] == []


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md", "README.zh-CN.md"])
def test_the_documents_name_every_runtime(document: str) -> None:
    """A runtime that is added is added to the tables that a reader looks at."""
    text = (ROOT / document).read_text()
    assert [runtime.name for runtime in discover() if f"`{runtime.name}`" not in text] == []


def test_every_target_of_the_makefile_is_explained() -> None:
    """`make help` lists every target."""
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split()
    assert sorted(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE)) == sorted(phony)
