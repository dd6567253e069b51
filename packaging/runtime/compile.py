"""Bytecode that is taken as it is, whatever times a package manager gives the files: compile.py DIRECTORY PREFIX

Run by the private Python, on its library. Functions and modules come without their docstrings, which nobody reads on a
node and which took 1 MB of memory there; tracebacks show lines, not columns (-X no_debug_ranges). Unlike with -OO,
assertions stay, and classes keep their docstrings, which libraries read.
"""

import ast
import sys
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.util import cache_from_source, source_hash
from pathlib import Path


def main(directory: str, prefix: str) -> None:
    for source in sorted(Path(directory).rglob("*.py")):
        content = source.read_bytes()
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                leave_out_docstring(node)
        code = compile(tree, f"{prefix}/{source.relative_to(directory)}", "exec", dont_inherit=True, optimize=0)
        target = Path(cache_from_source(source))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(_code_to_hash_pyc(code, source_hash(content), checked=False))


def leave_out_docstring(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        # A function's body cannot be empty; a module's "from __future__" must come first.
        node.body[:1] = [] if isinstance(node, ast.Module) else [ast.copy_location(ast.Pass(), node.body[0])]


main(*sys.argv[1:])
