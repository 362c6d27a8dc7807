"""Where private keys come from: what can be used, what cannot and how that is said, and who makes one where none is."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from joserfc.jwk import RSAKey

from sms_foundation.auth.tokens.private_keys import (
    GeneratedKeys,
    GivenKeys,
    KeysAtPath,
    generate_signing_key,
    open_private_keys,
    read_pems,
)
from sms_foundation.core.config import LOCAL_AUTH_TOKEN, Settings
from sms_foundation.core.errors import StartupError
from tests.support.service import make_settings

FIRST, SECOND = generate_signing_key(), generate_signing_key()


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None
) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def production(**changes: object) -> Settings:
    return make_settings(
        app_env="production",
        database_url="postgresql://nobody@127.0.0.1:1/none",
        twilio_account_sid="AC" + "ab" * 16,
        twilio_auth_token=LOCAL_AUTH_TOKEN + "not",
        **changes,
    )


class TestSigningKey:
    def test_is_named_by_its_thumbprint(self) -> None:
        (read,) = read_pems(FIRST.pem)

        assert read.kid == FIRST.kid == RSAKey.import_key(FIRST.pem).thumbprint()
        assert set(FIRST.public_jwk) == {"kid", "kty", "alg", "use", "n", "e"}

    def test_never_shows_itself(self) -> None:
        assert "RSAKey" not in repr(FIRST)


class TestReadPems:
    def test_several_keep_their_order(self) -> None:
        keys = read_pems(f"newest:\n{SECOND.pem}\n{FIRST.pem}")

        assert [key.kid for key in keys] == [SECOND.kid, FIRST.kid]

    def test_line_breaks_may_be_written_as_backslash_n(self) -> None:
        (key,) = read_pems(FIRST.pem.replace("\n", "\\n"))

        assert key.kid == FIRST.kid

    def test_the_older_kind_of_pem_is_read_too(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()

        assert len(read_pems(text)) == 1

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "no private key"),
            ("s3cr3t", "no private key"),
            (pem(rsa.generate_private_key(65537, 1024)), "2048"),  # noqa: S505  # the point
            (pem(ec.generate_private_key(ec.SECP256R1())), "no RSA key"),
            (
                pem(rsa.generate_private_key(public_exponent=65537, key_size=2048), BestAvailableEncryption(b"s3cr3t")),
                "encrypted",
            ),
            ("-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----", "cannot be read"),
        ],
        ids=["nothing", "other text", "too short", "elliptic", "encrypted", "broken"],
    )
    def test_what_cannot_sign_is_refused_without_being_shown(self, text: str, words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            read_pems(text)

        assert "s3cr3t" not in str(caught.value)


class TestOpenPrivateKeys:
    def test_the_setting_wins(self) -> None:
        keys = open_private_keys(production(signing_key=FIRST.pem))

        assert isinstance(keys, GivenKeys)
        assert [key.kid for key in keys.read()] == [FIRST.kid]

    def test_a_setting_that_cannot_be_used_stops_the_start_in_one_line(self) -> None:
        with pytest.raises(StartupError, match=r"^SIGNING_KEY holds no private key") as caught:
            open_private_keys(production(signing_key="s3cr3t"))

        assert "s3cr3t" not in str(caught.value)

    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_path_that_cannot_be_used_stops_the_start(self, tmp_path: Path, is_there: bool) -> None:
        path = tmp_path if is_there else tmp_path / "key.pem"

        with pytest.raises(StartupError, match="^" + re.escape(f"SIGNING_KEY_PATH {path}")):
            open_private_keys(production(signing_key_path=path))

    def test_a_path_to_a_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(FIRST.pem)
        keys = open_private_keys(production(signing_key_path=tmp_path / "key"))

        assert keys is not None
        assert [key.kid for key in keys.read()] == [FIRST.kid]

    def test_none_is_made_outside_of_a_developers_machine(self) -> None:
        assert open_private_keys(production()) is None

    def test_on_a_developers_machine_one_is_made_when_it_is_needed(self, tmp_path: Path) -> None:
        keys = open_private_keys(make_settings(sms_data_dir=tmp_path))

        assert isinstance(keys, GeneratedKeys)
        assert list(tmp_path.iterdir()) == []


class TestKeysAtPath:
    def test_the_last_name_of_a_folder_is_the_newest(self, tmp_path: Path) -> None:
        (tmp_path / "2026-01.pem").write_text(FIRST.pem)
        (tmp_path / "2026-02.pem").write_text(SECOND.pem)
        (tmp_path / "notes.txt").write_text("not a key")
        keys = KeysAtPath(tmp_path)

        assert [key.kid for key in keys.read()] == [SECOND.kid, FIRST.kid]
        assert [key.kid for key in keys.read({SECOND.kid})] == [FIRST.kid]

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "broken.pem").write_text("s3cr3t")

        with pytest.raises(StartupError, match=r"\(broken\.pem\)"):
            KeysAtPath(tmp_path).read()

    def test_a_new_key_goes_into_a_folder_but_not_into_a_file(self, tmp_path: Path) -> None:
        added = KeysAtPath(tmp_path).add(FIRST)

        assert added is not None
        assert [key.kid for key in KeysAtPath(tmp_path).read()] == [FIRST.kid]
        assert KeysAtPath(added).add(SECOND) is None


class TestGeneratedKeys:
    def test_the_first_who_asks_makes_one_that_only_its_owner_can_read(self, tmp_path: Path) -> None:
        folder = tmp_path / "signing-keys"
        (key,) = GeneratedKeys(folder).read()

        (file,) = folder.glob("*.pem")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [each.kid for each in GeneratedKeys(folder).read()] == [key.kid]

    def test_retired_ones_are_deleted_and_replaced(self, tmp_path: Path) -> None:
        keys = GeneratedKeys(tmp_path)
        (old,) = keys.read()
        (new,) = keys.read({old.kid})

        assert new.kid != old.kid
        assert len(list(tmp_path.glob("*.pem"))) == 1

    def test_a_broken_file_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "a.pem").write_text("s3cr3t")

        with pytest.raises(StartupError, match=r"a\.pem .*delete it"):
            GeneratedKeys(tmp_path).read()

    @pytest.mark.slow
    def test_processes_that_start_together_make_one(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from sms_foundation.auth.tokens.private_keys import GeneratedKeys;"
            "sys.stdin.readline(); print(*[key.kid for key in GeneratedKeys(Path(sys.argv[1])).read()])"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "keys")]
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        printed = {child.communicate()[0] for child in children}

        assert len(printed) == 1
        assert len(printed.pop().split()) == 1
