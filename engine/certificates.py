"""The certificates of one run, by which its processes on several machines know each other.

May live here: making them, with the package `cryptography`. May not: how they are used (rpc/tls.py) and delivered.

Each run has an authority of its own. Its key is never written anywhere, and is forgotten with the object: nobody can
make another certificate for the run. The certificates are valid at any time, since the clocks of machines may be wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rpc.tls import Credentials

__all__ = ["Authority"]

_BEGIN, _END = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class Authority:
    """Makes the certificates of one run (P-256)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the authority of a run")
        made = _certificate(self._name, self._name, self._key.public_key(), self._key.public_key(), None)
        self._certificate = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, name: str) -> Credentials:
        """New credentials; *name* is for whoever reads the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = _certificate(_name(name), self._name, key.public_key(), self._key.public_key(), purposes)
        return Credentials(
            self._certificate,
            made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Daadkvs: {text}"[:64])])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    authority: ec.EllipticCurvePublicKey,
    purposes: list[x509.ObjectIdentifier] | None,
) -> x509.CertificateBuilder:
    """A certificate that is to be signed; that of the authority itself has no *purposes*."""
    is_authority = purposes is None
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
    )
    return builder if purposes is None else builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
