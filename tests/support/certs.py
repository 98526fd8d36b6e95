"""A certificate authority made at test time by the `openssl` command."""

from __future__ import annotations

import atexit
import functools
import pathlib
import shutil
import ssl
import subprocess
import tempfile

CURVE = ("-pkeyopt", "ec_paramgen_curve:P-256")

EXTENSIONS = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""

AUTHORITY = """
[ca]
default_ca = here
[here]
dir = .
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


class Certificates:
    """The files of one authority and of the certificates that it signed.

    `server`, `client`: valid for localhost, 127.0.0.1 and ::1. `other`: valid for
    another name. `expired`: like `server`, but its time is over.
    """

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.folder = folder
        self.authority = folder / "authority.pem"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-nodes", "-days", "30", *CURVE),
            *("-keyout", "authority.key", "-out", "authority.pem"),
            *("-subj", f"/CN={name}"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        (folder / "authority.cnf").write_text(AUTHORITY)
        (folder / "index.txt").touch()
        valid = "DNS:localhost, IP:127.0.0.1, IP:::1"
        self.server = self._sign("server", valid, "-days", "30")
        self.client = self._sign("client", valid, "-days", "30")
        self.other = self._sign("other", "DNS:other.example", "-days", "30")
        past = ("-startdate", "200101000000Z", "-enddate", "200102000000Z")
        self.expired = self._sign("expired", valid, *past)

    def _openssl(self, *args: str) -> None:
        done = subprocess.run(
            ["openssl", *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"openssl {args[0]}: {done.stderr}")

    def _sign(self, name: str, names: str, *dates: str) -> pathlib.Path:
        """Makes a key and a certificate; returns the file that holds both."""
        (self.folder / f"{name}.ext").write_text(EXTENSIONS.format(names=names))
        self._openssl(
            *("req", "-new", "-newkey", "ec", "-nodes", *CURVE, "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", "authority.cnf", *dates),
            *("-cert", "authority.pem", "-keyfile", "authority.key"),
            *("-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext"),
        )
        both = self.folder / f"{name}.pem"
        parts = (self.folder / f"{name}.key", self.folder / f"{name}.crt")
        both.write_text("".join(part.read_text() for part in parts))
        return both

    def server_context(
        self, certificate: pathlib.Path | None = None, *, verify: bool = False
    ) -> ssl.SSLContext:
        """A server's context; with `verify` it asks for the client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate or self.server)
        if verify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context

    def client_context(
        self, certificate: pathlib.Path | None = None, *, trust: bool = True
    ) -> ssl.SSLContext:
        """A client's context that trusts this authority, or nobody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trust:
            context.load_verify_locations(self.authority)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


@functools.cache
def certificates() -> Certificates:
    """The authority of this test run."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="asynccore-certs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Certificates(folder, "asynccore test authority")
