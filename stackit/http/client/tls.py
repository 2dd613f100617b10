"""TLS of the connections to one host: whom to trust, and what to show, from files that may be replaced at any time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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

TlsFiles = tuple[Path | None, Path | None, Path | None]
"""Those of the authorities, the client's certificate, and its key."""


class ClientTls:
    """What connections to ``host`` are made with."""

    def __init__(self, host: str, files: TlsFiles) -> None:
        """Raises ValueError for a host that cannot have a certificate."""
        self._host = host
        self._files = files
        self._versions: list[tuple[int, int, int]] = []
        self._options: Any = None
        optionsForClientTLS(host)

    def options(self) -> Any:
        """Twisted's options for a connection. Raises ValueError and OSError where a file does not hold what it should.

        Files are read again when they change: short-lived certificates are renewed often.
        """
        versions = [_version(file) for file in self._files if file is not None]
        if self._options is None or versions != self._versions:
            self._options = self._made()
            self._versions = versions
        return self._options

    def _made(self) -> Any:
        ca_file, client_cert, client_key = self._files
        try:
            # The authorities of the file alone, or those of the machine; and the certificate must be this host's.
            trusted = platformTrust() if ca_file is None else trustRootFromCertificates(_certificates(ca_file))
            if client_cert is None:
                return optionsForClientTLS(self._host, trusted)
            own, *above = _certificates(client_cert)
            key = KeyPair.load((client_key or client_cert).read_bytes(), FILETYPE_PEM)
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
