"""Checks of files with keys and certificates: each raises ValueError that says what is expected.

The text of an error names files, and never repeats their content.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

_LARGEST = 16 * 2**20
# Characters that ssh replaces, or splits a path at; its options have no way to escape them.
_NOT_FOR_SSH = re.compile(r"[\x00-\x1f\x7f\"%$\\]")


def read(file: Path) -> bytes:
    """Return the content of a regular file that this process may read."""
    try:
        # A pipe would hold up the start for as long as nobody writes to it.
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError(f"{file} is not a regular file")
        with file.open("rb") as opened:
            return opened.read(_LARGEST)
    except OSError as problem:
        raise ValueError(f"{file} cannot be read: {problem.strerror}") from None


def certificates(file: Path) -> list[Any]:
    """Return the certificates in a file, in PEM; at least one."""
    from cryptography import x509  # noqa: PLC0415 - only who names such files needs it

    try:
        return x509.load_pem_x509_certificates(read(file))
    except ValueError as problem:
        text = str(problem)
        raise ValueError(
            text if str(file) in text else f"{file} holds no certificate in PEM, or a broken one"
        ) from None


def key_of(file: Path, certificate: Path) -> None:
    """Check that a file holds the private key of the first certificate in another file (or the same), in PEM."""
    if _private_key(file).public_key() != certificates(certificate)[0].public_key():
        raise ValueError(f"{file} is not the key of the first certificate in {certificate}")


def rsa_key(file: Path) -> None:
    """Check that a file holds a private RSA key in PEM, as GitHub makes them for an App."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - as above

    if not isinstance(_private_key(file), RSAPrivateKey):
        raise ValueError(f"{file} holds a key of another kind; expected the RSA key that GitHub made for the App")


def _private_key(file: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - as above

    content = read(file)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError(f"{file} is encrypted, and nobody could say the passphrase; store the key without") from None
    except ValueError:
        raise ValueError(f"{file} holds no private key in PEM, or a broken one") from None


def ssh_key(file: Path) -> None:
    """Check that a file holds a private key that ssh takes: it refuses one that others may read."""
    _for_ssh(file)
    if b"PRIVATE KEY" not in read(file):
        raise ValueError(f"{file} holds no private key")
    status = file.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise ValueError(f"{file} may be read by others, and ssh takes no such key: chmod 600")


def known_hosts(file: Path) -> None:
    """Check that a file holds keys of hosts."""
    _for_ssh(file)
    if not read(file).strip():
        raise ValueError(f"{file} is empty; expected the keys of hosts, as ssh-keyscan prints them")


def _for_ssh(file: Path) -> None:
    if _NOT_FOR_SSH.search(str(file)):
        raise ValueError('expected a path without control characters and any of " % $ \\, which mean more to ssh')
