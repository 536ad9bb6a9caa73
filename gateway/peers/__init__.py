"""The leaves: each peer as the domain's Protocol wants it, over its stub.

Invariant: what leaves this package is a domain value or a Failure; a peer that cannot be
reached is named, with what to do.
"""
