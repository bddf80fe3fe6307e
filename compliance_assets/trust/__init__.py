"""Who vouches?

Pure: bytes in, yes or no out. Canonical bytes and digests, signatures, the Merkle tree and its checkpoints live here.
Nothing here knows what a stage is, opens a database or reads a declaration.
"""
