"""What the packages carry that others wrote: an SBOM (CycloneDX 1.6), notices, and Debian's copyright file.

    bundled.py sbom|notices|copyright|licenses TREE VERSION RUNTIME

Names, versions and digests come from packaging/runtime/pins.txt, from what the build of RUNTIME took, and from what
the parts in TREE say of themselves, so next to nothing here has to be kept up to date by hand. The same input gives the
same bytes.
"""

import json
import re
import sys
import uuid
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PRIVATE = "/usr/lib/mirror-agent"
PACKAGES = f"{PRIVATE}/lib/python3.14/site-packages"
NOTICES = f"{PRIVATE}/licenses/THIRD-PARTY"
_BY_CLASSIFIER = {"MIT License": "MIT", "BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0"}
_PREFERRED = ("Apache-2.0", "MIT")
"""Where a part may be taken under several licences: the first of these that is among them."""
Component = dict[str, Any]

# What is compiled into a part besides its own code, and is not said by itself: version, licence, whose it is. A version
# that is "" is read from the list that Python's sources come with.
_INSIDE = {
    "python": {
        "hacl-star": ("", "MIT", "2016-2022 INRIA, CMU and Microsoft Corporation, 2022-2023 HACL* Contributors"),
        "mpdecimal": ("", "BSD-2-Clause", "2008-2020 Stefan Krah"),
        "mimalloc": ("2.1.2", "MIT", "2018-2023 Microsoft Research, Daan Leijen"),
    },
    "pyyaml": {"libyaml": ("0.2.5", "MIT", "2017-2020 Ingy döt Net, 2006-2016 Kirill Simonov")},
}


# The notices that MIT and Zlib want to go along, from LICENSE files of crates whose metadata names only authors.
_COPYRIGHT = {
    "aho-corasick": "2015 Andrew Gallant",
    "bitvec": "2018 myrrlyn (Alexander Payne)",
    "foldhash": "2024 Orson Peters",
    "funty": "2020 myrrlyn (Alexander Payne)",
    "jiter": "2022 to present Samuel Colvin",
    "lru": "2016 Jerome Froelich",
    "memchr": "2015 Andrew Gallant",
    "radium": "2019 kneecaw (Nika Layzell)",
    "speedate": "2022 Samuel Colvin",
    "strum": "2019 Peter Glotfelty",
    "strum_macros": "2019 Peter Glotfelty",
    "synstructure": "2016 Nika Layzell",
    "tap": "2017 Elliot Linder",
    "wyz": "2018 myrrlyn (Alexander Payne)",
}


def parts(tree: Path, runtime: Path) -> list[Component]:
    """Every part, each with what is inside it."""
    return [*sources(tree), *wheels(tree, runtime)]


def sources(tree: Path) -> list[Component]:
    """What was compiled from source, as pins.txt has it."""
    lines = (HERE / "runtime" / "pins.txt").read_text().splitlines()
    pins = [line.split() for line in lines if line and not line.startswith("#")]
    return [
        _with(
            _component(name, version, licence, f"pkg:generic/{name}@{version}", digest),
            list(_compiled_in(name, tree)),
        )
        for name, version, digest, licence, _ in pins
    ]


def wheels(tree: Path, runtime: Path) -> list[Component]:
    """The Python packages, by their own metadata, each with what it says it has inside."""
    taken = dict(line.split() for line in (runtime / "wheels.txt").read_text().splitlines())
    found = []
    for metadata in sorted((tree / PACKAGES[1:]).glob("*.dist-info/METADATA")):
        fields = Parser().parsestr(metadata.read_text())
        name, version = fields["Name"], fields["Version"]
        purl = f"pkg:pypi/{name.lower()}@{version}"
        component = _component(name, version, _licence(fields), purl, taken[name.lower()])
        declared = [
            _with_notice(inner)
            for file in sorted(metadata.parent.glob("sboms/*.json"))
            for inner in json.loads(file.read_text()).get("components", [])
            if inner.get("scope") != "excluded"  # a tool of its build
        ]
        found.append(_with(component, [*declared, *_compiled_in(name.lower(), tree)]))
    return found


def _with_notice(inner: Component) -> Component:
    holder = _COPYRIGHT.get(inner["name"])
    return {**inner, "copyright": f"Copyright (c) {holder}"} if holder else inner


def _compiled_in(name: str, tree: Path) -> Iterator[Component]:
    for inner, (known, licence, holder) in _INSIDE.get(name, {}).items():
        version = known or _as_python_says(inner, tree)
        part = _component(inner, version, licence, f"pkg:generic/{inner}@{version}")
        yield {**part, "copyright": f"Copyright (c) {holder}"}


def _as_python_says(name: str, tree: Path) -> str:
    document = json.loads((tree / PRIVATE[1:] / "licenses" / "python" / "sbom.spdx.json").read_text())
    return str(next(part["versionInfo"] for part in document["packages"] if part["name"] == name))


def _with(component: Component, inside: list[Component]) -> Component:
    return {**component, "components": inside} if inside else component


def _licence(fields: Message) -> str:
    """The SPDX expression, or what stood in its place before metadata 2.4."""
    if fields["License-Expression"]:
        return str(fields["License-Expression"])
    if re.fullmatch(r"[A-Za-z]+-[0-9A-Za-z.-]+|MIT", fields["License"] or ""):
        return str(fields["License"])
    named = [line.rsplit(" :: ", 1)[-1] for line in fields.get_all("Classifier", []) if line.startswith("License ::")]
    known = [_BY_CLASSIFIER[name] for name in named if name in _BY_CLASSIFIER]
    if not known:
        raise SystemExit(f"bundled.py: no licence known for {fields['Name']}: {named or fields['License']}")
    return known[0]


def _component(name: str, version: str, licence: str, purl: str, digest: str = "") -> Component:
    hashes = {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{"expression": licence}], **hashes}  # fmt: skip


def _expression(part: Component) -> str:
    return str(part["licenses"][0]["expression"])


def _taken_under(expression: str) -> tuple[str, ...]:
    """The licences under which a part is taken: of each choice, one."""
    chosen = []
    for terms in expression.replace("(", "").replace(")", "").split(" AND "):
        choices = terms.split(" OR ")
        chosen.append(next((one for one in _PREFERRED if one in choices), choices[0]))
    return tuple(chosen)


def sbom(tree: Path, version: str, runtime: Path) -> str:
    """The bill of materials of one version."""
    subject = _component("mirror-agent", version, "Apache-2.0", f"pkg:generic/mirror-agent@{version}")
    every = parts(tree, runtime)
    identity = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([subject, every], sort_keys=True))
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{identity}", "version": 1,
        "metadata": {"component": {**subject, "type": "application"}}, "components": every,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": sorted(part["bom-ref"] for part in every)}],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"


def licenses(tree: Path, _version: str, runtime: Path) -> str:
    """The SPDX expression of the whole package."""
    inside = {one for _, part in _inner(tree, runtime) for one in _taken_under(_expression(part))}
    every = ({_expression(part) for part in parts(tree, runtime)} | inside) - {"Apache-2.0"}
    return " AND ".join(["Apache-2.0", *(f"({one})" if " " in one else one for one in sorted(every))]) + "\n"


def _inner(tree: Path, runtime: Path) -> list[tuple[Component, Component]]:
    """(a part, what is inside it), for everything that is inside something."""
    return [(part, inner) for part in parts(tree, runtime) for inner in part.get("components", [])]


def notices(tree: Path, _version: str, runtime: Path) -> str:
    """Whose what is that is compiled into the parts, and the texts of its licences."""
    lines = ["What is compiled into the parts of this package besides their own code.", ""]
    needed = set()
    for part, inner in _inner(tree, runtime):
        taken = _taken_under(_expression(inner))
        needed.update(taken)
        whose = inner.get("copyright") or f"by {inner.get('author') or 'its authors'}"
        lines.append(f"{inner['name']} {inner['version']}, in {part['name']}: {' AND '.join(taken)}; {whose}")
    for licence in sorted(needed):
        lines += ["", "-" * 80, licence, "", _text(licence).rstrip()]
    return "\n".join(lines) + "\n"


def _text(licence: str) -> str:
    if licence == "Apache-2.0":
        return f"The text is in {PRIVATE}/licenses/mirror-agent/LICENSE"
    if licence == "BSD-2-Clause":
        return f"The text is in {PRIVATE}/licenses/python/license.rst"
    try:
        return (HERE / "licenses" / licence).read_text()
    except FileNotFoundError:
        raise SystemExit(f"bundled.py: packaging/licenses has no text of {licence}") from None


def copyright_file(tree: Path, _version: str, runtime: Path) -> str:
    """Debian's copyright file; the texts themselves lie beside what they are about."""
    own = (f"Copyright (C) 2026 The mirror-agent maintainers\nLicense: Apache-2.0\n"
           f" The text is in {PRIVATE}/licenses/mirror-agent/\n")  # fmt: skip
    others = [f"{part['name']} {part['version']}, by its authors: {_expression(part)}\n"
              f" Copyright notices and text are in {_where(tree, part['name'])}\n"
              for part in parts(tree, runtime)]  # fmt: skip
    inside = f"What is compiled into these besides their own code, and under which licences: {NOTICES}\n"
    common = "On Debian, common licences are in /usr/share/common-licenses/ (Apache-2.0, LGPL-2.1) as well.\n"
    return f"mirror-agent\n\n{own}\nInside it, each under its own licence:\n\n" + "\n".join([*others, inside, common])


def _where(tree: Path, name: str) -> str:
    if (tree / PRIVATE[1:] / "licenses" / name).is_dir():
        return f"{PRIVATE}/licenses/{name}/"
    normal = re.sub(r"[-_.]+", "_", name).lower()
    for place in ("licenses", "LICENSE"):  # since metadata 2.4, and before
        for found in (tree / PACKAGES[1:]).glob(f"{normal}-*.dist-info/{place}"):
            return f"/{found.relative_to(tree)}" + ("/" if found.is_dir() else "")
    raise SystemExit(f"bundled.py: {name} comes without the text of its licence")


if __name__ == "__main__":
    _, what, root, release, made = sys.argv
    make = {"sbom": sbom, "notices": notices, "copyright": copyright_file, "licenses": licenses}[what]
    sys.stdout.write(make(Path(root), release, Path(made)))
