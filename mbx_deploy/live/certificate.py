"""A certificate of one's own, for https in a network that has no name for this machine."""

import datetime
import hashlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass

from mbx_deploy.errors import InputError, ToolMissing
from mbx_deploy.system.scratch import scratch_folder

VALID_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """context: for a server. fingerprint: SHA-256, as browsers show it."""

    context: ssl.SSLContext
    fingerprint: str


def make_certificate(address: str) -> Certificate:
    """Return a self-signed certificate for an address of this machine, with a key of its own that nobody keeps.

    Raises ToolMissing without the package cryptography.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        hint = "install it: pip install 'mbx-deploy[serve]'"
        raise ToolMissing("the package cryptography is not installed (needed for --phone)", hint) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mbx-deploy serve")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName(socket.gethostname() or "localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with scratch_folder() as folder:  # ssl reads files only; nobody else may enter here
        path = folder / "certificate.pem"
        path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path)
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return Certificate(context, ":".join(digest[place : place + 2] for place in range(0, len(digest), 2)))


def network_address() -> str:
    """Return the address by which others in the network reach this machine. Raises InputError where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent: the system says which address it would take
            address = str(probe.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    if ipaddress.ip_address(address).is_loopback:
        raise InputError("this machine is in no network: got no address for a phone", "name one: --address 192.168.1.5")
    return address


def qr_code(text: str) -> str | None:
    """Return a QR code of half blocks for a terminal, or None without the package segno."""
    try:
        import segno
    except ImportError:
        return None
    import io

    drawn = io.StringIO()
    segno.make(text, error="l").terminal(drawn, compact=True)
    return drawn.getvalue()
