"""Keys and certificates of one test cluster: an authority, the API server's, and one for each client by name and group.

A client certificate's common name is the user and its organisation the group, as Kubernetes reads them. Made anew for
each cluster, valid for a day, and never outside its folder.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVER_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")


class Authority:
    """`ca.crt` in the folder, and what it signs: NAME.crt and NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leadtime-test-ca")])
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def server(self, name: str, addresses: Sequence[str]) -> tuple[Path, Path]:
        """Certificate and key of a server at these addresses."""
        names: list[x509.GeneralName] = [x509.DNSName(one) for one in SERVER_NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
        return self._signed(name, name, (), ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(names))

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> tuple[Path, Path]:
        """Certificate and key by which the API server knows `user`, a member of `groups`."""
        return self._signed(name, user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _signed(
        self,
        name: str,
        common_name: str,
        organisations: Sequence[str],
        usage: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organisations]
        builder = _builder(x509.Name(attributes), self._name, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = self.folder / f"{name}.crt"
        certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        return certificate, private_key(self.folder / f"{name}.key", key)


def service_account_keys(folder: Path) -> tuple[Path, Path]:
    """The pair that signs and checks tokens of service accounts: (public, private)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = folder / "sa.pub"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return public, private_key(folder / "sa.key", key)


def private_key(path: Path, key: Key) -> Path:
    """Written so that only this user reads it."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
