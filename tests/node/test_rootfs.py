"""How the root file systems are named, found and built; no node and no root needed."""

from pathlib import Path

import pytest

from tests.node.rootfs import apt_sources, build_once, recipe

_DEB822 = """\
Types: deb
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
_ONE_LINE = """\
# deb http://comment.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://line.example/debian trixie main contrib
deb http://other.example/repo nodistro main
deb-src http://line.example/debian trixie main
"""


def test_the_mirror_is_found_in_both_formats_of_apt_sources(tmp_path: Path) -> None:
    """One-line and deb822 sources of Debian proper count; sources, security, disabled and foreign ones do not."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(_ONE_LINE)
    (tmp_path / "sources.list.d/debian.sources").write_text(_DEB822)
    assert list(apt_sources(tmp_path)) == ["http://line.example/debian", "http://mirror.example/debian"]


def test_the_name_follows_the_recipe() -> None:
    """The same suite gives the same cache entry; another suite, with another recipe, another one."""
    assert recipe("bookworm").name == recipe("bookworm").name
    assert recipe("trixie").name.startswith("trixie-")
    assert recipe("trixie").name.removeprefix("trixie") != recipe("forky").name.removeprefix("forky")


def test_a_build_that_fails_leaves_nothing_and_one_that_works_is_not_repeated(tmp_path: Path) -> None:
    """Only a complete tree gets its final name, and it is built once."""
    final, built = tmp_path / "cache" / "entry", []

    def failing(tree: Path) -> None:
        tree.mkdir()
        raise RuntimeError("no space")

    def working(tree: Path) -> None:
        tree.mkdir()
        built.append(tree)

    with pytest.raises(RuntimeError, match="no space"):
        build_once(final, failing)
    assert [path.name for path in final.parent.iterdir()] == ["entry.lock"]
    assert [build_once(final, working), build_once(final, working)] == [final, final]
    assert (len(built), final.is_dir()) == (1, True)
