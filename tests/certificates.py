"""Certificates for tests: made by openssl, for a name and a time that the test chooses."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def certificate(folder: Path, *, name: str = "localhost", also: str = "IP:127.0.0.1", days: int = 2) -> Path:
    """A self-signed certificate with its key in one PEM file; `days` below 0 is over already."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder.mkdir(parents=True, exist_ok=True)
    key, request, made = folder / "key.pem", folder / "request.pem", folder / "made.pem"
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{name},{also}\n" if also else f"subjectAltName=DNS:{name}\n")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    _openssl(
        "x509", "-req", "-in", request, "-signkey", key, "-days", days, "-extfile", extensions, "-out", made
    )
    both = folder / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both


def server_context(pem: Path) -> ssl.SSLContext:
    """TLS as a server speaks it with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
