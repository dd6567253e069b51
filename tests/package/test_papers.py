"""What the packages say of what others wrote in them: the bill of materials, notices, the texts of licences."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.package.conftest import PythonRun
from tests.packages import REPOSITORY

PRIVATE = "usr/lib/mirror-agent"
PACKAGES = f"{PRIVATE}/lib/python3.14/site-packages"
# Its licence's file has none.
_WITHOUT_NOTICE = {"zmij"}
_PINS = re.compile(r"^([a-z]\S*)\s+(\S+)\s+([0-9a-f]{64})", re.MULTILINE)


@pytest.fixture(scope="module")
def document(tree: Path) -> dict[str, Any]:
    """The bill of materials."""
    found: dict[str, Any] = json.loads((tree / "usr/share/doc/mirror-agent/mirror-agent.cdx.json").read_text())
    return found


def pins() -> list[tuple[str, str, str]]:
    """(name, version, digest) of what is compiled from source."""
    return _PINS.findall((REPOSITORY / "packaging/runtime/pins.txt").read_text())


def locked() -> dict[str, tuple[str, set[str]]]:
    """name -> (version, digests that are allowed) of the Python packages."""
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
        if match := re.match(r"([a-z0-9-]+)==(\S+)", line):
            name = match[1]
            found[name] = (match[2], set())
        if digest := re.search(r"sha256:([0-9a-f]{64})", line):
            found[name][1].add(digest[1])
    return found


def test_the_bill_of_materials_names_everything(document: dict[str, Any]) -> None:
    """What is compiled in and every Python package, by version and by the very digest that was pinned, with licence."""
    named = {part["name"].lower().replace("_", "-"): part["version"] for part in document["components"]}
    lock = locked()
    assert named == {
        **{name: version for name, (version, _) in lock.items()},
        **{name: version for name, version, _ in pins()},
    }
    digests = {part["name"].lower(): part["hashes"][0]["content"] for part in document["components"]}
    pinned = {name: digest for name, _, digest in pins()}
    assert {name: digests[name] for name in pinned} == pinned
    wheels = {name: digest for name, digest in digests.items() if name not in pinned}
    assert {name for name, digest in wheels.items() if digest not in lock[name.replace("_", "-")][1]} == set()
    assert [part["name"] for part in document["components"] if not part["licenses"][0]["expression"]] == []


def test_what_is_inside_the_parts_is_named_too(document: dict[str, Any], private_python: PythonRun) -> None:
    """Each C library and each crate that is compiled into Python, PyYAML or pydantic-core, in the version that is
    there; and expat, which Python could have, is not."""
    inside = {
        part["name"].lower(): {inner["name"]: inner["version"] for inner in part.get("components", [])}
        for part in document["components"]
    }
    assert set(inside["python"]) == {"hacl-star", "mpdecimal", "mimalloc"}
    assert len(inside["pydantic_core"]) > 50
    script = (
        "import decimal, yaml, importlib.util\n"
        "print('.'.join(map(str, yaml._yaml.get_version())), decimal.__libmpdec_version__,"
        " importlib.util.find_spec('pyexpat'))"
    )
    assert private_python("-c", script).stdout.split() == [
        inside["pyyaml"]["libyaml"], inside["python"]["mpdecimal"], "None",
    ]  # fmt: skip


def test_every_licence_comes_with_its_text(tree: Path, document: dict[str, Any]) -> None:
    """Beside each part, and for what is inside the parts in one file that names each with version and authors, and with
    its copyright notice where the licence wants that to go along."""
    for name, _, _ in pins():
        assert list((tree / PRIVATE / "licenses" / name).iterdir())
    for package in (tree / PACKAGES).glob("*.dist-info"):
        assert [file for file in (*package.glob("licenses/*"), package / "LICENSE") if file.is_file()], package.name
    notices = (tree / PRIVATE / "licenses" / "THIRD-PARTY").read_text()
    heads = set(re.findall(r"^-{80}\n(\S+)$", notices, re.MULTILINE))
    assert heads == {"Apache-2.0", "BSD-2-Clause", "MIT", "Unicode-3.0", "Unicode-DFS-2016", "Zlib"}
    for part in document["components"]:
        for inner in part.get("components", []):
            found = re.search(
                rf"^{re.escape(inner['name'])} {re.escape(inner['version'])}, in {part['name']}: (.+); (.+)$",
                notices, re.MULTILINE,
            )  # fmt: skip
            assert found, inner["name"]
            assert set(found[1].split(" AND ")) <= heads, found[0]
            if found[1] in ("MIT", "Zlib", "BSD-2-Clause") and inner["name"] not in _WITHOUT_NOTICE:
                assert found[2].startswith("Copyright (c) "), found[0]
    for text in (
        tree / PRIVATE / "licenses" / "mirror-agent" / "LICENSE",
        tree / PRIVATE / "licenses/python/license.rst",
    ):
        assert text.stat().st_size > 10_000
