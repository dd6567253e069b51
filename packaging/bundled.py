"""What the packages carry that others wrote: an SBOM (CycloneDX 1.6) and Debian's copyright file.

    bundled.py sbom|copyright|licenses TREE VERSION

Names, versions and digests come from packaging/runtime/pins.txt and from the packages' own metadata in TREE, so nothing
here has to be kept up to date by hand. The same input gives the same bytes.
"""

import json
import re
import sys
import uuid
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PRIVATE = "/usr/lib/mirror-agent"
PACKAGES = f"{PRIVATE}/lib/python3.14/site-packages"
_BY_CLASSIFIER = {"MIT License": "MIT", "BSD License": "BSD-3-Clause", "Apache Software License": "Apache-2.0"}
Component = dict[str, Any]


def sources() -> list[Component]:
    """What was compiled from source, as pins.txt has it."""
    lines = (HERE / "runtime" / "pins.txt").read_text().splitlines()
    pins = [line.split() for line in lines if line and not line.startswith("#")]
    return [_component(name, version, licence, f"pkg:generic/{name}@{version}", digest)
            for name, version, digest, licence, _ in pins]  # fmt: skip


def wheels(tree: Path) -> list[Component]:
    """The Python packages, by their own metadata, each with what it says it has inside."""
    found = []
    for metadata in sorted((tree / PACKAGES[1:]).glob("*.dist-info/METADATA")):
        fields = Parser().parsestr(metadata.read_text())
        name, version = fields["Name"], fields["Version"]
        component = _component(name, version, _licence(fields), f"pkg:pypi/{name.lower()}@{version}")
        inside = [inner for file in sorted(metadata.parent.glob("sboms/*.json"))
                  for inner in json.loads(file.read_text()).get("components", [])]  # fmt: skip
        found.append({**component, "components": inside} if inside else component)
    return found


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


def sbom(tree: Path, version: str) -> str:
    """The bill of materials of one version."""
    subject = _component("mirror-agent", version, "Apache-2.0", f"pkg:generic/mirror-agent@{version}")
    parts = [*sources(), *wheels(tree)]
    identity = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([subject, parts], sort_keys=True))
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{identity}", "version": 1,
        "metadata": {"component": {**subject, "type": "application"}}, "components": parts,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": sorted(part["bom-ref"] for part in parts)}],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"


def licenses(tree: Path, _version: str) -> str:
    """The SPDX expression of the whole package."""
    every = {part["licenses"][0]["expression"] for part in (*sources(), *wheels(tree))} - {"Apache-2.0"}
    return " AND ".join(["Apache-2.0", *(f"({one})" if " " in one else one for one in sorted(every))]) + "\n"


def copyright_file(tree: Path, _version: str) -> str:
    """Debian's copyright file; the texts themselves lie beside what they are about."""
    own = (f"Copyright (C) 2026 The mirror-agent maintainers\nLicense: Apache-2.0\n"
           f" The text is in {PRIVATE}/licenses/mirror-agent/\n")  # fmt: skip
    others = [f"{part['name']} {part['version']}, by its authors: {part['licenses'][0]['expression']}\n"
              f" Copyright notices and text are in {_where(tree, part['name'])}\n"
              for part in (*sources(), *wheels(tree))]  # fmt: skip
    common = "On Debian, common licences are in /usr/share/common-licenses/ (Apache-2.0, LGPL-2.1) as well.\n"
    return f"mirror-agent\n\n{own}\nInside it, each under its own licence:\n\n" + "\n".join([*others, common])


def _where(tree: Path, name: str) -> str:
    if (tree / PRIVATE[1:] / "licenses" / name).is_dir():
        return f"{PRIVATE}/licenses/{name}/"
    normal = re.sub(r"[-_.]+", "_", name).lower()
    for place in ("licenses", "LICENSE"):  # since metadata 2.4, and before
        for found in (tree / PACKAGES[1:]).glob(f"{normal}-*.dist-info/{place}"):
            return f"/{found.relative_to(tree)}" + ("/" if found.is_dir() else "")
    raise SystemExit(f"bundled.py: {name} comes without the text of its licence")


if __name__ == "__main__":
    _, what, root, release = sys.argv
    make = {"sbom": sbom, "copyright": copyright_file, "licenses": licenses}[what]
    sys.stdout.write(make(Path(root), release))
