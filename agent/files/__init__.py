"""The file system of one root: the only place that writes, renames or removes managed files.

| module | what |
|---|---|
| `_filesystem` | FileSystem: what may be read, where may be written |
| `_batch` | several writes at once, flushed side by side |
| `_replace`, `_remove`, `_directories` | one change each, whole or not at all |
| `_paths`, `_contents`, `_temps` | where a path ends, what stands there, what waits beside it |
| `_reasons`, `_kernel` | what the kernel says, in words; what Python's `os` lacks |
"""

from agent.files._contents import OWN_MAX_BYTES
from agent.files._filesystem import FileSystem, Note, Signature
from agent.files._paths import outermost, resolved
from agent.files._reasons import explained

__all__ = ["OWN_MAX_BYTES", "FileSystem", "Note", "Signature", "explained", "outermost", "resolved"]
