"""TLS of the connections to one host: trust and identity, from files that may be replaced at any time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from OpenSSL.crypto import Error as OpenSSLError
from twisted.internet.ssl import (
    Certificate,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TlsFiles(msgspec.Struct, frozen=True):
    """Files in PEM for TLS, which may be replaced at any time.

    ``ca_file``: the authorities to trust, instead of the machine's. ``client_cert``: the certificate to show, with the
    chain above it. ``client_key``: its key, if that is not in the same file.
    """

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class ClientTls:
    """The TLS settings of connections to one host."""

    def __init__(self, host: str, files: TlsFiles) -> None:
        """Raises ValueError for a host that cannot have a certificate."""
        self._host = host
        self._files = files
        self._versions: list[tuple[int, int, int]] = []
        self._options: Any = None
        optionsForClientTLS(host)

    def options(self) -> Any:
        """Return Twisted's options for a connection. Raises ValueError and OSError for a file that cannot be used.

        Files are read again when they change: short-lived certificates are renewed often.
        """
        files = (self._files.ca_file, self._files.client_cert, self._files.client_key)
        versions = [_version(file) for file in files if file is not None]
        if self._options is None or versions != self._versions:
            self._options = self._make_options()
            self._versions = versions
        return self._options

    def _make_options(self) -> Any:
        files = self._files
        try:
            # The authorities of the file alone, or those of the machine; and the certificate must be this host's.
            trusted = platformTrust()
            if files.ca_file is not None:
                trusted = trustRootFromCertificates(_certificates(files.ca_file))
            if files.client_cert is None:
                return optionsForClientTLS(self._host, trusted)
            own, *above = _certificates(files.client_cert)
            key = KeyPair.load((files.client_key or files.client_cert).read_bytes(), FILETYPE_PEM)
            shown = PrivateCertificate.fromCertificateAndKeyPair(own, key)
            chain = {"extraCertChain": [each.original for each in above]}
            return optionsForClientTLS(self._host, trusted, shown, extraCertificateOptions=chain)
        except OpenSSLError as problem:
            raise ValueError(str(problem)) from None


def _certificates(file: Path) -> list[Any]:
    found = _CERTIFICATE.findall(file.read_bytes())
    if not found:
        raise ValueError(f"{file} holds no certificate in PEM")
    return [Certificate(load_certificate(FILETYPE_PEM, each)) for each in found]


def _version(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
