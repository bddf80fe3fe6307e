"""One root stands for all entries, proofs are short and cannot be forged, checkpoints are notes others can open."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust import merkle
from compliance_assets.trust.keys import PublicKey, SigningKey
from compliance_assets.trust.merkle import Checkpoint, Frontier

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "rfc6962"

# The eight leaves and the nine roots that implementations of RFC 6962 have shared since Certificate Transparency's own.
LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word: the slow way."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    left, right = root_by_definition(leaves[:k]), root_by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree in memory: its leaf hashes and its perfect subtrees."""

    def __init__(self, size: int) -> None:
        self.leaves = [merkle.leaf_hash(b"%d" % i) for i in range(size)]
        self.frontier = Frontier()
        self.nodes = {}
        for i, leaf in enumerate(self.leaves):
            self.nodes[0, i] = leaf
            self.nodes |= {(level, index): hashed for level, index, hashed in self.frontier.append(leaf)}

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def root(self, size: int) -> bytes:
        return Frontier.of(size, self.node).root


def test_the_roots_of_the_eight_known_leaves_are_the_known_roots() -> None:
    frontier = Frontier()
    assert [frontier.root.hex(), *((frontier.append(merkle.leaf_hash(leaf)), frontier.root.hex())[1]
                                   for leaf in LEAVES)] == ROOTS


def _vectors(kind: str) -> list[Path]:
    return sorted((VECTORS / kind).rglob("*.json"))


def _hashes(encoded: list[str] | None) -> list[bytes]:
    return [base64.b64decode(each) for each in encoded or []]


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the transparency-dev/merkle vectors are not beside this repository")
def test_every_published_vector_is_judged_as_published() -> None:
    assert len(_vectors("inclusion")) + len(_vectors("consistency")) == 196
    for path in (*_vectors("inclusion"), *_vectors("consistency")):
        case = json.loads(path.read_text())
        try:
            if "leafIdx" in case:
                merkle.verify_inclusion(case["leafIdx"], case["treeSize"], base64.b64decode(case["leafHash"] or ""),
                                        _hashes(case["proof"]), base64.b64decode(case["root"] or ""))
            else:
                merkle.verify_consistency(case["size1"], case["size2"], base64.b64decode(case["root1"] or ""),
                                          base64.b64decode(case["root2"] or ""), _hashes(case["proof"]))
            refused = False
        except UntrustedEvidence:
            refused = True
        assert refused == case["wantErr"], path.relative_to(VECTORS)


def test_every_root_and_every_proof_of_every_tree_to_40_leaves_agrees_with_the_definition() -> None:
    tree = Tree(40)
    for size in range(1, 41):
        root = root_by_definition(tree.leaves[:size])
        assert tree.root(size) == root
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, tree.node)
            merkle.verify_inclusion(index, size, tree.leaves[index], proof, root)
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(old, size, tree.node)
            merkle.verify_consistency(old, size, root_by_definition(tree.leaves[:old]), root, proof)


def test_no_inclusion_proof_holds_for_another_leaf_index_or_size() -> None:
    tree = Tree(20)
    for size in range(2, 21):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, tree.node)
            wrong = [(index, size, tree.leaves[(index + 1) % size], proof),
                     (index, size, tree.leaves[index], proof[:-1]),
                     (index, size, tree.leaves[index], (*proof, proof[-1])),
                     (size, size, tree.leaves[index], proof), (-1, size, tree.leaves[index], proof)]
            wrong += [(other, size, tree.leaves[index], proof) for other in range(size) if other != index]
            for i, n, leaf, path in wrong:
                with pytest.raises(UntrustedEvidence):
                    merkle.verify_inclusion(i, n, leaf, path, tree.root(size))


def test_nothing_follows_from_an_empty_tree() -> None:
    tree = Tree(3)
    for old, proof in ((0, ()), (0, (tree.root(3),)), (4, ())):
        with pytest.raises(UntrustedEvidence):
            merkle.verify_consistency(old, 3, merkle.EMPTY_ROOT, tree.root(3), proof)
    for old, new in ((0, 3), (3, 2)):
        with pytest.raises(UntrustedEvidence):
            merkle.consistency_proof(old, new, tree.node)
    with pytest.raises(UntrustedEvidence):
        merkle.inclusion_proof(3, 3, tree.node)


@given(st.integers(1, 200), st.data())
def test_a_changed_leaf_breaks_consistency(size: int, data: st.DataObject) -> None:
    tree = Tree(size)
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    leaves = [*tree.leaves]
    leaves[changed] = merkle.leaf_hash(b"another")
    proof = merkle.consistency_proof(old, size, tree.node)
    with pytest.raises(UntrustedEvidence):
        merkle.verify_consistency(old, size, root_by_definition(leaves[:old]), tree.root(size), proof)


@given(st.integers(0, 300))
def test_a_frontier_restored_from_stored_nodes_goes_on_as_if_it_had_never_stopped(size: int) -> None:
    tree = Tree(size)
    restored = Frontier.of(size, tree.node)
    assert restored.root == tree.frontier.root and restored.peaks == tree.frontier.peaks
    assert restored.append(b"\x07" * 32) == tree.frontier.append(b"\x07" * 32)


def test_a_frontier_with_a_peak_too_few_is_refused() -> None:
    with pytest.raises(UntrustedEvidence):
        Frontier(3, [b"\x00" * 32])


# Go's sumdb/note publishes this key and this note as its worked example.
NEUMANN = PublicKey(base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:])
NEUMANN_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (f"{TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6Ryy"
        "BwJnAM=\n")


def test_the_published_note_opens_and_is_written_the_same() -> None:
    assert merkle.open_note(NOTE, "PeterNeumann", NEUMANN) == TEXT
    assert merkle.sign_note(TEXT, "PeterNeumann", SigningKey.from_seed(NEUMANN_SEED)) == NOTE


KEY = SigningKey.generate()
HEAD = Checkpoint("lender.example/ledger/credit", 3, Tree(3).root(3))


def test_a_checkpoint_opens_with_its_key_and_origin_only() -> None:
    note = merkle.sign_checkpoint(HEAD, KEY)
    assert merkle.open_checkpoint(note, KEY.public, HEAD.origin) == HEAD
    for public, origin in ((SigningKey.generate().public, HEAD.origin), (KEY.public, "lender.example/ledger/other")):
        with pytest.raises(UntrustedEvidence):
            merkle.open_checkpoint(note, public, origin)


def test_a_note_signed_in_the_right_name_about_another_log_is_not_our_checkpoint() -> None:
    other = Checkpoint("elsewhere", 3, HEAD.root)
    note = merkle.sign_note(other.text, HEAD.origin, KEY)
    with pytest.raises(UntrustedEvidence):
        merkle.open_checkpoint(note, KEY.public, HEAD.origin)


def test_every_changed_character_of_a_checkpoint_is_refused() -> None:
    note = merkle.sign_checkpoint(HEAD, KEY)
    for i in range(len(note)):
        for letter in ("\n", "A", "0", "—", " "):
            if note[i] != letter:
                with pytest.raises(UntrustedEvidence):
                    merkle.open_checkpoint(note[:i] + letter + note[i + 1:], KEY.public, HEAD.origin)
        with pytest.raises(UntrustedEvidence):
            merkle.open_checkpoint(note[:i], KEY.public, HEAD.origin)


def test_a_witness_may_sign_too_but_not_alone_and_nobody_twice() -> None:
    note = merkle.sign_checkpoint(HEAD, KEY)
    witness = merkle.sign_note(HEAD.text, "witness.example", SigningKey.generate()).split("\n\n")[1]
    assert merkle.open_checkpoint(note + witness, KEY.public, HEAD.origin) == HEAD
    for wrong in (f"{HEAD.text}\n{witness}", note + note.split("\n\n")[1], f"{HEAD.text}\n", note + "— x y\n", note * 2,
                  note + witness * 100):
        with pytest.raises(UntrustedEvidence):
            merkle.open_checkpoint(wrong, KEY.public, HEAD.origin)


@pytest.mark.parametrize("body", [
    "{o}\n03\n{r}\n", "{o}\n-3\n{r}\n", "{o}\n3\n{r}\nmore\n", "{o}\n3\n", "{o}\n3\nAAAA\n", "{o}\n0\n{r}\n",
    "{o}\n٣\n{r}\n",
    "{o}\n99999999999999999999\n{r}\n", "{o}\n3\n\n{r}\n",
])
def test_a_malformed_checkpoint_is_refused_even_with_a_good_signature(body: str) -> None:
    text = body.format(o=HEAD.origin, r=base64.b64encode(HEAD.root).decode())
    with pytest.raises(UntrustedEvidence):
        merkle.open_checkpoint(merkle.sign_note(text, HEAD.origin, KEY), KEY.public, HEAD.origin)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_a_log_needs_a_name_that_a_note_can_carry(name: str) -> None:
    with pytest.raises(UntrustedEvidence):
        merkle.sign_checkpoint(Checkpoint(name, 0, merkle.EMPTY_ROOT), KEY)
