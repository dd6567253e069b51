"""Paths, durations, windows and headers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired.values import absolute_path, certs_directory, clock_window, go_duration, header_name, header_value
from tests.states import mirror, said


@pytest.mark.parametrize("text", ["/etc/x", "/a", "/etc/证书/x.pem", "/a b", "/...", "/a:b"])
def test_paths(text: str) -> None:
    """An absolute path in its shortest form stays what it is."""
    assert absolute_path(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be an absolute path, beginning with /"),
        ("etc/x", "must be an absolute path, beginning with /"),
        ("~/x", "must be an absolute path, beginning with /"),
        ("/etc/../x", 'must not have "." or ".." in it'),
        ("/etc/./x", 'must not have "." or ".." in it'),
        ("/..", 'must not have "." or ".." in it'),
        ("/", "must name a file or directory without double or trailing slashes"),
        ("/etc/", "must name a file or directory without double or trailing slashes"),
        ("//etc", "must name a file or directory without double or trailing slashes"),
        ("/" + "x" * 4095, "is longer than 4095 bytes"),
        ("/" + "证" * 1400, "is longer than 4095 bytes"),
    ],
)
def test_what_is_no_path(text: str, message: str) -> None:
    """Relative, detouring and endless paths are refused."""
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        absolute_path(text)


def test_two_directories_are_not_one() -> None:
    """containerd 2.1 and later ignore a list of directories as a whole, the default of EKS among them."""
    with pytest.raises(ValueError, match="must be one directory"):
        certs_directory("/etc/containerd/certs.d:/etc/docker/certs.d")


@pytest.mark.parametrize(
    "text", ["3s", "500ms", "1m30s", "1.5s", ".5s", "1.s", "10m", "600s", "1ns", "1us", "0h1s", "0.1m"]
)
def test_durations(text: str) -> None:
    """What Go's ParseDuration takes is kept as written."""
    assert go_duration(text) == text


@pytest.mark.parametrize(
    "text", ["", "3", "s", "3 s", "3S", "1 sec", "-3s", "+3s", "3s ", "3µs", "1d", ".s", "3s4", "1e3s", "٣s", "3s" * 40]
)
def test_what_is_no_duration(text: str) -> None:
    """containerd drops the whole file for these."""
    with pytest.raises(ValueError, match="must be a duration as in 3s, 500ms or 1m30s"):
        go_duration(text)


@pytest.mark.parametrize("text", ["0s", "0", "0.0ms", "10m1ns", "1h", "11m", "600.1s"])
def test_durations_have_limits(text: str) -> None:
    """More than nothing, at most ten minutes."""
    with pytest.raises(ValueError, match="must be"):
        go_duration(text)


@given(st.text(alphabet="0123456789.nuµmsh ", max_size=12))
def test_every_accepted_duration_is_in_its_limits(text: str) -> None:
    """What passes is a sum of numbers with units, each known to Go."""
    try:
        assert go_duration(text) == text
    except ValueError:
        return
    assert text[0] in "0123456789."
    assert text[-1] in "smh"
    assert " " not in text


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("02:00-05:00", (120, 300)),
        ("22:30-01:00", (1350, 60)),
        ("00:00-23:59", (0, 1439)),
        ("02:00 - 05:00", (120, 300)),
    ],
)
def test_windows(text: str, window: tuple[int, int]) -> None:
    """Minutes after midnight."""
    assert clock_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "02:00", "02:00-", "-05:00", "2:00-5:00", "24:00-25:00", "02:60-03:00", "02:00–05:00", "02-05", "a-b"]
)
def test_what_is_no_window(text: str) -> None:
    """Two full times of day, nothing less."""
    with pytest.raises(ValueError, match="must be two times of day"):
        clock_window(text)


def test_a_window_has_a_length() -> None:
    """The same minute twice may mean always or never: it is refused."""
    with pytest.raises(ValueError, match="begins and ends at the same minute"):
        clock_window("02:00-02:00")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is not the name of an HTTP header"),
        ("X A", "is not the name of an HTTP header"),
        ("X:A", "is not the name of an HTTP header"),
        ("Ä", "is not the name of an HTTP header"),
        ("x" * 101, "is not the name of an HTTP header"),
        ("Host", "is set by the runtime itself"),
        ("content-length", "is set by the runtime itself"),
    ],
)
def test_what_is_no_header(name: str, message: str) -> None:
    """Names are tokens, and not those of the connection itself."""
    with pytest.raises(ValueError, match=message):
        header_name(name)


@pytest.mark.parametrize("value", ["", " a", "a ", "ä", "a\x00b"])
def test_what_is_no_header_value(value: str) -> None:
    """Visible ASCII, not empty."""
    with pytest.raises(ValueError, match="must be printable ASCII"):
        header_value(value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("ca: x.pem", "ca: must be an absolute path, beginning with /"),
        ("ca: [/a, ../b]", "ca[1]: must be an absolute path, beginning with /"),
        ("client: [{cert: x, key: /k}]", "client[0].cert: must be an absolute path, beginning with /"),
        ("client: [{key: /k}]", "client[0]: cert is missing"),
        ("client: {cert: /c, key: /k}", "client: must be a list, not a mapping"),
        ("client: [/c]", "client[0]: must be a mapping with cert and key, not a string"),
        ("header: {X Y: a}", "header.…: is not the name of an HTTP header: letters, digits and - are usual"),
        ("header: {Host: a}", "header.Host: is set by the runtime itself: remove it"),
        ("header: {X-A: []}", "header.X-A: is an empty list: write at least one, or remove the key"),
        ("header_file: {X-A: secret}", "header_file.X-A: must be an absolute path, beginning with /"),
        ("header_file: {X-A: [/a]}", "header_file.X-A: must be a string, not a list"),
        ("dial_timeout: 1 sec", "dial_timeout: must be a duration as in 3s, 500ms or 1m30s"),
    ],
)
def test_each_says_where_it_is(fields: str, expected: str) -> None:
    """The key's path leads to the very value."""
    problems = said(mirror(f"url: https://m.example, {fields}"))
    assert [problem.partition(": ")[2] for problem in problems] == [f"registries.r.example.mirrors[0].{expected}"]


FEW = [f"x{number}" for number in range(65)]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("version: 1\npresets: [" + ", ".join(FEW) + "]", "presets"),
        (mirror("url: https://m.example, ca: [" + ", ".join(f"/{x}" for x in FEW) + "]"), "ca"),
        (mirror("url: https://m.example, client: [" + ", ".join(f"{{cert: /{x}}}" for x in FEW) + "]"), "client"),
        (mirror("url: https://m.example, header: {" + ", ".join(f"{x}: a" for x in FEW) + "}"), "header"),
        (mirror("url: https://m.example, header: {X: [" + ", ".join(FEW) + "]}"), "header.X"),
        (mirror("url: https://m.example, header_file: {" + ", ".join(f"{x}: /a" for x in FEW) + "}"), "header_file"),
        (mirror("url: https://m.example, capabilities: [" + ", ".join(["pull"] * 65) + "]"), "capabilities"),
    ],
    ids=["presets", "ca", "client", "header", "values", "header_file", "capabilities"],
)
def test_every_list_has_a_limit(text: str, field: str) -> None:
    """64 entries; one more is a problem and nothing is cut off in silence."""
    assert any(f"{field}: has more than 64 entries, which is the limit" in line for line in said(text))
