"""Image references: what people write, and the one form in which runtimes ask for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.image import BadReferenceError, Image, parse

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", Image("docker.io", "library/nginx")),
        ("library/nginx", Image("docker.io", "library/nginx")),
        ("docker.io/nginx", Image("docker.io", "library/nginx")),
        ("index.docker.io/nginx:1", Image("docker.io", "library/nginx", "1")),
        ("index.docker.io/bitnami/redis", Image("docker.io", "bitnami/redis")),
        ("registry-1.docker.io/library/nginx", Image("registry-1.docker.io", "library/nginx")),
        ("owner/name", Image("docker.io", "owner/name")),
        ("ghcr.io/owner/name:v1.2", Image("ghcr.io", "owner/name", "v1.2")),
        ("localhost/x", Image("localhost", "x")),
        ("localhost:5000/x:1", Image("localhost:5000", "x", "1")),
        ("registry.lan:5000/a/b", Image("registry.lan:5000", "a/b")),
        ("host:5000/a", Image("host:5000", "a")),
        ("nginx:5000", Image("docker.io", "library/nginx", "5000")),
        ("[::1]:5000/a", Image("[::1]:5000", "a")),
        ("UP.test/x", Image("UP.test", "x")),
        (f"nginx@{SHA}", Image("docker.io", "library/nginx", "", SHA)),
        (f"nginx:1@{SHA}", Image("docker.io", "library/nginx", "1", SHA)),
    ],
)
def test_what_people_write(text: str, expected: Image) -> None:
    """Docker Hub, `library/` and `latest` are implied; a first part with a dot, colon or capital is a registry."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an image is named as in"),
        ("https://nginx", 'leave "https://" out'),
        ("docker://nginx", 'leave "docker://" out'),
        (" nginx", "a blank"),
        ("a b", "a blank"),
        ("Nginx", "no capital letters"),
        ("nginx:", "a tag has"),
        ("nginx:a b", "a blank"),
        ("nginx@", "@ must be a digest"),
        ("nginx@sha256:123", "@ must be a digest"),
        ("nginx@sha256:" + "0" * 65, "exactly 64 characters"),
        ("0" * 64, "the id of an image"),
        ("ghcr.io/", "a part of the name is empty"),
        ("a//b", "a part of the name is empty"),
        ("-.io/x", "is no registry"),
        ("a.io:x/y", "is no registry"),
        ("nginx_", "between them single"),
        ("a.io/" + "x" * 252, "more than 255"),
    ],
)
def test_what_is_no_image(text: str, why: str) -> None:
    """Each mistake is named, with what would be right."""
    with pytest.raises(BadReferenceError, match=r".*") as caught:
        parse(text)
    assert why in str(caught.value)


PART = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)
NAMES = st.builds(
    Image,
    registry=st.sampled_from(["docker.io", "ghcr.io", "r.lan:5000", "localhost"]),
    repository=st.lists(PART, min_size=2, max_size=4).map("/".join),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True),
    digest=st.sampled_from(["", SHA]),
)


@given(NAMES)
def test_the_whole_name_names_the_same_image(image: Image) -> None:
    """Normalising twice changes nothing."""
    assert parse(image.name) == image


@given(st.text(max_size=40))
def test_any_text_is_an_image_or_refused_in_words(text: str) -> None:
    """No other exception, whatever is typed; and what is accepted has the form that is asked for."""
    try:
        image = parse(text)
    except BadReferenceError:
        return
    assert parse(image.name) == image
