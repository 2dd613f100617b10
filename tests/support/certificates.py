"""A private authority for tests, and what it signs: PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates

DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates; ``ca`` is the file with its own. ``above`` is the authority that signed that, if any."""

    def __init__(self, directory: Path, name: str = "ca", above: Authority | None = None) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._above = above
        self._subject = _name(f"the authority {name}")
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = _builder(self._subject, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        signer = above or self
        self.certificate = signer.sign(builder.add_extension(usage, True))
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.issuer_name(self._subject).sign(self._key, hashes.SHA256())

    def issue(
        self, name: str, passphrase: bytes | None = None, *, until: dt.datetime | None = None
    ) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 (its authority's behind it, where that has one above) and its key, as files.

        It is valid for two days, up to ``until``: tomorrow, unless given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(_name(name), key, until).add_extension(address, False).add_extension(usage, False)
        chain = [self.sign(builder), *([self.certificate] if self._above is not None else [])]
        cert_file, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        cert_file.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        encryption: Any = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return cert_file, key_file


def server_options(cert_file: Path, key_file: Path, clients: Path | None = None) -> CertificateOptions:
    """Options of a server; ``clients`` is the authority of the certificates that it asks clients for."""
    trusted = None if clients is None else trustRootFromCertificates([Certificate.loadPEM(clients.read_bytes())])
    pair = KeyPair.load(key_file.read_bytes(), 1)
    own = Certificate.loadPEM(cert_file.read_bytes())
    return CertificateOptions(privateKey=pair.original, certificate=own.original, trustRoot=trusted)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, until: dt.datetime | None = None
) -> x509.CertificateBuilder:
    end = until or dt.datetime.now(dt.UTC) + DAY
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(end - 2 * DAY).not_valid_after(end)
