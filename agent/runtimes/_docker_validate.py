"""What `dockerd --validate` says about a daemon.json before it is written, with the flags that dockerd has.

The file goes in as /dev/stdin, so that nothing invalid is ever on disk. 20.10 does not know the flag, a sandbox may
keep it from running, and 29 looks at the system, too: only the sentence with which dockerd refuses the file counts, and
everything else says nothing. Source: moby cmd/dockerd @ 23.0 to 29.7; tried on 26.1.5 and 28.5.2, which name unknown
keys, flags in both places and (28.3 and later) bad mirrors, and pass bad insecure registries and drivers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.host import HostReader
from agent.runtimes._docker_fate import shown_url
from agent.runtimes._docker_flags import without_config_file

_REFUSES = re.compile(r"unable to configure the Docker daemon with file /dev/stdin: (.+)")
_VALUES = re.compile(r" \(from flag: .*")
_LONGEST_SENTENCE = 300


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Contents of daemon.json that dockerd was asked about, and its sentence for each, "" for one that it takes."""

    said: Mapping[bytes, str] = field(default_factory=dict, repr=False)

    def refusal(self, content: bytes | None) -> str:
        """Why dockerd would not start with it; "" if it would, or if it was not asked."""
        return self.said.get(content, "") if content is not None else ""


@dataclass(frozen=True, slots=True)
class Validator:
    """A dockerd to ask: the program and its flags."""

    host: HostReader
    program: str
    flags: Sequence[str]

    def refusal(self, content: bytes | None) -> str:
        """Ask. The values of a conflict are left out, for they may be secret."""
        if not self.program or content is None:
            return ""
        argv = (self.program, "--validate", "--config-file=/dev/stdin", *without_config_file(self.flags))
        result = self.host.command(argv, content)
        match = _REFUSES.search(result.stderr) if result is not None and result.returncode != 0 else None
        return shown_url(_VALUES.sub("", match[1]).strip())[:_LONGEST_SENTENCE] if match else ""
