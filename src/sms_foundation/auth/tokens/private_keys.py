"""Where the private halves of our signing keys come from: a setting, a path, or a folder of our own. Newest first."""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import RSAKey

from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import Settings
from sms_foundation.core.errors import StartupError

LEAST_BITS = 2048  # Source: https://www.rfc-editor.org/rfc/rfc7518#section-3.3
_MOST_BITS = 8192
_PEMS = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its name: the RFC 7638 thumbprint, the same wherever the key is read."""

    kid: str
    key: RSAKey = field(repr=False)

    @property
    def public_jwk(self) -> dict[str, str]:
        """The public half, with exactly what is published of it."""
        public = self.key.as_dict(private=False)
        return {
            "kid": self.kid,
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "n": str(public["n"]),
            "e": str(public["e"]),
        }

    @property
    def pem(self) -> str:
        """The private key as PEM (PKCS #8)."""
        return self.key.as_pem(private=True).decode()


def generate_signing_key() -> SigningKey:
    """Make a key; takes some hundredths of a second."""
    return _named(generate_private_key(public_exponent=65537, key_size=LEAST_BITS))


def read_pems(text: str) -> tuple[SigningKey, ...]:
    """Read the private keys in `text`, in its order; `\\n` may stand for a line break, as some dashboards write it.

    Raises ValueError that says what is wrong, without any of the text.
    """
    pems = [match[0] for match in _PEMS.finditer(text.replace("\\n", "\n"))]
    if not pems:
        raise ValueError("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    return tuple(_read_pem(pem) for pem in pems)


class PrivateKeys(Protocol):
    """One of the places private keys come from."""

    def read(self, retired: Collection[str] = ()) -> tuple[SigningKey, ...]:
        """Return the keys that are there now, newest first, without those whose names have `retired`.

        Blocks. Raises StartupError when what is there cannot be read.
        """
        ...

    def add(self, key: SigningKey) -> Path | None:
        """Keep a new key there; None where this process cannot write."""
        ...


class GivenKeys:
    """SIGNING_KEY. Changes only with the process."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = keys

    def read(self, retired: Collection[str] = ()) -> tuple[SigningKey, ...]:
        """See `PrivateKeys`."""
        return tuple(key for key in self._keys if key.kid not in retired)

    def add(self, key: SigningKey) -> Path | None:  # noqa: ARG002  # see the protocol
        """See `PrivateKeys`."""
        return None


class KeysAtPath:
    """SIGNING_KEY_PATH: a file, or a folder whose *.pem files are read from the last name in the alphabet on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, retired: Collection[str] = ()) -> tuple[SigningKey, ...]:
        """See `PrivateKeys`."""
        try:
            keys = _read_folder(self._path) if self._path.is_dir() else read_pems(_text_of(self._path))
        except OSError as error:
            raise StartupError(f"SIGNING_KEY_PATH {self._path}: {error.strerror}") from None
        except ValueError as error:
            raise StartupError(f"SIGNING_KEY_PATH {self._path} {error}") from None
        if not keys:
            raise StartupError(f"SIGNING_KEY_PATH {self._path} is a folder without *.pem files")
        return tuple(key for key in keys if key.kid not in retired)

    def add(self, key: SigningKey) -> Path | None:
        """See `PrivateKeys`."""
        if not self._path.is_dir() or not os.access(self._path, os.W_OK):
            return None
        return _write(self._path, key)


class GeneratedKeys:
    """A folder in SMS_DATA_DIR, for a developer's machine: who first asks makes the key, retired ones are deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, retired: Collection[str] = ()) -> tuple[SigningKey, ...]:
        """See `PrivateKeys`. There is always one."""
        with self._locked():
            keys = [key for file in _pem_files(self._folder) for key in self._keep_valid(file, retired)]
            if not keys:
                keys = [generate_signing_key()]
                _write(self._folder, keys[0])
        return tuple(keys)

    def add(self, key: SigningKey) -> Path | None:
        """See `PrivateKeys`."""
        with self._locked():
            return _write(self._folder, key)

    @staticmethod
    def _keep_valid(file: Path, retired: Collection[str]) -> tuple[SigningKey, ...]:
        """Return the keys of a file, none after deleting one that has retired."""
        try:
            keys = read_pems(_text_of(file))
        except ValueError as error:
            raise StartupError(f"the signing key {file} {error}; delete it, and another is made") from None
        if all(key.kid in retired for key in keys):
            file.unlink()
            return ()
        return keys

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process make or delete a key meanwhile; the kernel drops the lock with its holder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise StartupError(f"signing keys in {self._folder}: {error.strerror}") from None


def open_private_keys(settings: Settings) -> PrivateKeys | None:
    """Return where the private keys come from; None where nothing is configured and none may be made.

    Raises StartupError for a key that cannot be used. Makes none yet.
    """
    if settings.signing_key is not None:
        try:
            return GivenKeys(read_pems(settings.signing_key.get_secret_value()))
        except ValueError as error:
            raise StartupError(f"SIGNING_KEY {error}") from None
    if settings.signing_key_path is not None:
        keys = KeysAtPath(settings.signing_key_path)
        keys.read()  # what is wrong with it is to be seen at the start
        return keys
    return GeneratedKeys(settings.sms_data_dir / "signing-keys") if settings.is_local else None


def _read_pem(pem: str) -> SigningKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise ValueError("holds a private key that cannot be read; it must not be encrypted") from None
    if not isinstance(key, RSAPrivateKey) or not LEAST_BITS <= key.key_size <= _MOST_BITS:
        raise ValueError(f"holds a key that is no RSA key of {LEAST_BITS} to {_MOST_BITS} bits")
    return _named(key)


def _named(private_key: RSAPrivateKey) -> SigningKey:
    key = RSAKey.import_key(private_key)
    return SigningKey(key.thumbprint(), key)


def _pem_files(folder: Path) -> list[Path]:
    return sorted((file for file in folder.glob("*.pem") if file.is_file()), reverse=True)


def _read_folder(folder: Path) -> tuple[SigningKey, ...]:
    return tuple(key for file in _pem_files(folder) for key in _read_one(file))


def _read_one(file: Path) -> tuple[SigningKey, ...]:
    try:
        return read_pems(_text_of(file))
    except ValueError as error:
        raise ValueError(f"({file.name}) {error}") from None


def _text_of(file: Path) -> str:
    return file.read_text(encoding="ascii", errors="replace")


def _write(folder: Path, key: SigningKey) -> Path:
    """Write a file that is there completely or not at all, readable by its owner alone. Raises StartupError."""
    target = folder / f"{utc_now():%Y%m%dT%H%M%S.%fZ}-{key.kid[:8]}.pem"
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".new-", encoding="ascii") as file:  # mode 0600
            file.write(key.pem)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, target)
    except OSError as error:
        raise StartupError(f"a signing key cannot be written to {folder}: {error.strerror}") from None
    return target
