"""The vault alone: what it seals, opens and tells apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from harness import ROOT
from ledger.vault import PLAIN, SEALED, Vault
from tasks.errors import SealedError

A, B, C = (Fernet.generate_key().decode() for _ in range(3))
TEXT = '{"name":"训练"}'


def test_what_is_sealed_is_a_fernet_token_of_the_newest_key_behind_the_prefix() -> None:
    sealed = Vault([B, A]).seal(TEXT)
    assert sealed.startswith(SEALED)
    assert Fernet(B).decrypt(sealed.removeprefix(SEALED)).decode() == TEXT


def test_any_key_opens_whatever_their_order() -> None:
    sealed = Vault([A]).seal(TEXT)
    assert [Vault(keys).open(sealed) for keys in ([A], [B, A], [A, B])] == [TEXT] * 3


def test_without_keys_nothing_is_sealed_and_no_cipher_is_loaded() -> None:
    assert (PLAIN.seal(TEXT), PLAIN.open(TEXT), PLAIN.seals) == (TEXT, TEXT, False)
    code = (
        "import sys; from ledger.vault import PLAIN; PLAIN.open(PLAIN.seal('x')); PLAIN.digests('x'); "
        "sys.exit('cryptography.fernet' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_plain_text_passes_through_a_vault_with_keys() -> None:
    assert Vault([A]).open(TEXT) == TEXT


@pytest.mark.parametrize("keys", [[], [B], [B, C]])
def test_without_a_fitting_key_it_says_which_setting_is_wrong(keys: list[str]) -> None:
    vault = Vault(keys)
    sealed = Vault([A]).seal(TEXT)
    with pytest.raises(SealedError, match="LAUNCHQ_SECRET_KEY") as refused:
        vault.open(sealed)
    assert refused.value.__cause__ is None
    assert vault.open_or_none(sealed) is None


@pytest.mark.parametrize("inside", ["", "x", "gAAAAA", "ü" * 60, "=" * 80])
def test_what_only_looks_sealed_is_not_opened(inside: str) -> None:
    with pytest.raises(SealedError):
        Vault([A]).open(SEALED + inside)


def test_what_was_sealed_and_is_no_text_is_not_opened() -> None:
    with pytest.raises(SealedError):
        Vault([A]).open(SEALED + Fernet(A).encrypt(b"\xff\xfe").decode())


def test_digests_are_one_under_each_key_and_the_plain_one_last() -> None:
    digests = Vault([B, A]).digests(TEXT)
    plain = hashlib.sha1(TEXT.encode(), usedforsecurity=False).hexdigest()
    assert digests == (Vault([B]).digests(TEXT)[0], Vault([A]).digests(TEXT)[0], plain)
    assert len(set(digests)) == 3
    assert Vault([B, A]).digests(TEXT + " ")[0] != digests[0]
    assert PLAIN.digests(TEXT) == ()


def test_keys_and_what_comes_from_them_are_not_in_repr() -> None:
    vault = Vault([A])
    vault.seal(TEXT)
    assert A not in repr(vault)
    assert A not in repr(vault._fernet)
