"""A TLS 1.3 sender that says what it likes: the keys come from the keylog file."""

from __future__ import annotations

import hmac
import pathlib
from typing import Any

import pytest

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
KEY_SIZES = {"TLS_AES_256_GCM_SHA384": 32, "TLS_AES_128_GCM_SHA256": 16}


class Forge:
    """Encrypts records in the name of a client that has not sent any data yet."""

    def __init__(self, keylog: pathlib.Path, cipher: str) -> None:
        reason = "cryptography is not installed"
        self.aead = pytest.importorskip(
            "cryptography.hazmat.primitives.ciphers.aead", reason=reason
        )
        if cipher not in KEY_SIZES:
            pytest.skip(f"{cipher} is not known here")
        self.size = KEY_SIZES[cipher]
        self.hash = cipher.rpartition("_")[2].lower()
        for line in keylog.read_text().splitlines():
            name, _, secret = line.partition(" ")
            if name == "CLIENT_TRAFFIC_SECRET_0":
                self.take(bytes.fromhex(secret.split()[1]))

    def derive(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label of the secret; no more than one block is needed."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0\1"
        return hmac.digest(self.secret, info, self.hash)[:size]

    def take(self, secret: bytes) -> None:
        self.secret = secret
        self.key: Any = self.aead.AESGCM(self.derive(b"key", self.size))
        self.iv = int.from_bytes(self.derive(b"iv", 12), "big")
        self.count = 0

    def record(self, kind: int, content: bytes) -> bytes:
        inner = content + bytes([kind])
        header = b"\x17\3\3" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self.iv ^ self.count).to_bytes(12, "big")
        self.count += 1
        return bytes(header + self.key.encrypt(nonce, inner, header))

    def key_update(self, *, answer: bool = False) -> bytes:
        """The record, after which the keys are others."""
        data = self.record(HANDSHAKE, b"\x18\0\0\1" + bytes([answer]))
        self.take(self.derive(b"traffic upd", len(self.secret)))
        return data
