"""Orders and random streams from names: what is drawn for an image depends on its id, never on its place."""

import hashlib

__all__ = ["hash_key", "hash_seed"]


def hash_key(*parts: object) -> bytes:
    """Return the SHA-256 digest of the parts' texts joined by colons: a key to sort by that no order can steer."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).digest()


def hash_seed(*parts: object) -> int:
    """Return the seed of a random stream of 56 bits, which every generator takes, from the same digest."""
    return int.from_bytes(hash_key(*parts)[:7])
