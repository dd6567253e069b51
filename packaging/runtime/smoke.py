"""Run by a private Python: everything is there that its build could have left out without a word."""

import asyncio  # noqa: F401
import bz2
import ctypes
import hashlib
import importlib.metadata
import lzma
import ssl
import sys
import zlib

import pydantic_settings
import systemd.daemon
import tomlkit
import yaml
from watchdog.observers import inotify_c


def main() -> None:
    data = b"mirror" * 1000
    assert zlib.decompress(zlib.compress(data)) == bz2.decompress(bz2.compress(data)) == data
    assert lzma.decompress(lzma.compress(data)) == data
    assert hashlib.sha256(data).digest() and hashlib.new("sha3_512", data).digest() and hashlib.blake2b(data).digest()
    assert ssl.create_default_context().get_ciphers() and ssl.get_default_verify_paths().openssl_cafile.startswith(
        "/etc"
    )
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)
    ctypes.CDLL(None).qsort((ctypes.c_int * 3)(3, 2, 1), 3, 4, callback)
    assert yaml.load("a: [1]", Loader=yaml.CSafeLoader) == {"a": [1]}
    assert tomlkit.dumps(tomlkit.parse("a = 1 # kept\n")) == "a = 1 # kept\n"
    assert systemd.daemon.notify("STATUS=smoke") is False
    assert importlib.metadata.version("pydantic") and pydantic_settings.BaseSettings
    assert inotify_c.InotifyFD()
    print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}: all there")


main()
