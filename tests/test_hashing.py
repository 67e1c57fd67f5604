"""Keys and seeds from names are fixed for ever: a study made today is drawn the same tomorrow."""

import hashlib

from pellucid.hashing import hash_key, hash_seed


def test_a_key_is_the_digest_of_the_parts_joined_by_colons() -> None:
    assert hash_key(3, "a/b.png") == hashlib.sha256(b"3:a/b.png").digest()
    assert hash_key("3", "a/b.png") == hash_key(3, "a/b.png")


def test_a_seed_is_the_keys_first_seven_bytes_and_any_generator_takes_it() -> None:
    assert hash_seed(0, "") == int.from_bytes(hashlib.sha256(b"0:").digest()[:7])
    assert 0 <= hash_seed("evaluation", "noise", 2**64) < 2**56
