//! The vectors of the specification digest: trees, proofs, notes, tiles and proof files.

use onus_ledger::cosign::{cosign, cosignatures};
use onus_ledger::tile::{Tile, TileKind, encode_bundle, tiles_for_size};
use onus_ledger::{
    Checkpoint, Hash, KeyName, SignedCheckpoint, SigningKey, TlogProof, Tree, VerifierKey, leaf_hash,
    verify_consistency, verify_inclusion,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("tlog-vectors.json")).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    let hash = |hash: &Value| Hash::from_hex(hash.as_str().unwrap()).unwrap();
    value.as_array().unwrap().iter().map(hash).collect()
}

fn leaves(vectors: &Value) -> Vec<&str> {
    let leaves = vectors["leaf_data_utf8"].as_array().unwrap();
    leaves.iter().map(|leaf| leaf.as_str().unwrap()).collect()
}

fn tree(vectors: &Value) -> Tree {
    let mut tree = Tree::new();
    for leaf in leaves(vectors) {
        tree.append(leaf.as_bytes());
    }
    tree
}

fn seed(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn keys(vectors: &Value) -> (SigningKey, SigningKey) {
    let note = &vectors["note"];
    let log = SigningKey::from_seed(KeyName::new("onus.example/ledger").unwrap(), &seed(text(note, "log_seed_hex")));
    let witness = SigningKey::witness_from_seed(
        KeyName::new("witness.example/w1").unwrap(),
        &seed(text(note, "witness_seed_hex")),
    );
    (log, witness)
}

#[test]
fn roots_and_leaf_hashes() {
    let vectors = vectors();
    let tree = tree(&vectors);
    assert_eq!(tree.leaf_hashes(), hashes(&vectors["leaf_hashes_hex"]));
    for size in 0..=7 {
        let root = tree.root_at(size).unwrap();
        assert_eq!(root.to_hex(), text(&vectors["roots_hex"], &size.to_string()));
        assert_eq!(root.to_base64(), text(&vectors["roots_b64"], &size.to_string()));
    }
}

#[test]
fn proofs() {
    let vectors = vectors();
    let tree = tree(&vectors);
    for case in vectors["inclusion"].as_array().unwrap() {
        let (index, size) = (case["index"].as_u64().unwrap(), case["size"].as_u64().unwrap());
        let path = tree.inclusion_proof(index, size).unwrap();
        assert_eq!(path, hashes(&case["proof_hex"]), "{case}");
        let leaf = tree.leaf_hashes()[index as usize];
        verify_inclusion(index, size, &leaf, &path, &tree.root_at(size).unwrap()).unwrap();
    }
    for case in vectors["consistency"].as_array().unwrap() {
        let (old, new) = (case["old"].as_u64().unwrap(), case["new"].as_u64().unwrap());
        let path = tree.consistency_proof(old, new).unwrap();
        assert_eq!(path, hashes(&case["proof_hex"]), "{case}");
        let (old_root, new_root) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
        verify_consistency(old, new, &path, &old_root, &new_root).unwrap();
    }
}

#[test]
fn the_cosigned_checkpoint_byte_for_byte() {
    let vectors = vectors();
    let note = &vectors["note"];
    let (log, witness) = keys(&vectors);
    assert_eq!(log.verifier().to_vkey(), text(note, "log_vkey"));
    assert_eq!(witness.verifier().to_vkey(), text(note, "witness_vkey"));

    let tree = tree(&vectors);
    let checkpoint = Checkpoint::new(log.verifier().name().clone(), 7, tree.root());
    let mut signed = checkpoint.sign(&log).unwrap();
    let timestamp_s = note["timestamp"].as_u64().unwrap();
    let line = cosign(&signed, &witness, timestamp_s).unwrap();
    onus_ledger::cosign::attach(&mut signed, line, witness.verifier()).unwrap();
    assert_eq!(signed.to_string(), text(note, "checkpoint"));

    let log = VerifierKey::parse(text(note, "log_vkey")).unwrap();
    let witness = VerifierKey::parse(text(note, "witness_vkey")).unwrap();
    let opened = SignedCheckpoint::open(text(note, "checkpoint"), &log).unwrap();
    assert_eq!(opened.checkpoint().size, 7);
    let seen = cosignatures(&opened, &[witness]).unwrap();
    assert_eq!(seen[0].timestamp_s, timestamp_s);
}

#[test]
fn tiles() {
    let vectors = vectors();
    for (index, path) in vectors["tile_paths"].as_object().unwrap() {
        let kind = TileKind::Hashes { level: 0 };
        let tile = Tile::new(kind, index.parse().unwrap(), 256).unwrap();
        assert_eq!(tile.path(), format!("tile/0/{}", path.as_str().unwrap()));
    }
    for (size, levels) in vectors["tiles_for_size"].as_object().unwrap() {
        let tiles = tiles_for_size(size.parse().unwrap());
        let mut expected = Vec::new();
        for level in levels.as_array().unwrap() {
            let number = |key: &str| level[key].as_u64().unwrap();
            let kind = TileKind::Hashes { level: number("level") as u8 };
            for index in 0..number("full") {
                expected.push(Tile::new(kind, index, 256).unwrap());
            }
            if number("partial_width") > 0 {
                let width = number("partial_width") as u16;
                expected.push(Tile::new(kind, number("full"), width).unwrap());
            }
        }
        assert_eq!(tiles, expected, "size {size}");
    }
    let bundle = encode_bundle(&leaves(&vectors)[..2]).unwrap();
    assert_eq!(hex::encode(bundle), text(&vectors, "entry_bundle_hex_first_two"));
}

#[test]
fn the_proof_file_byte_for_byte_and_its_refusals() {
    let vectors = vectors();
    let file = text(&vectors, "tlog_proof_index3_size7");
    let (log, witness) = keys(&vectors);
    let witness = witness.verifier().clone();
    let made = TlogProof {
        extra: None,
        index: 3,
        path: tree(&vectors).inclusion_proof(3, 7).unwrap(),
        checkpoint: text(&vectors["note"], "checkpoint").to_owned(),
    };
    assert_eq!(made.to_string(), file);
    let proof = TlogProof::parse(file).unwrap();
    assert_eq!(proof, made);

    let (log, witnesses) = (log.verifier(), [witness]);
    let proven = proof.verify(b"onus-3", log, &witnesses, 1).unwrap();
    assert_eq!((proven.index, proven.cosignatures.len()), (3, 1));
    assert!(proof.verify(b"onus-4", log, &witnesses, 1).is_err());
    assert!(proof.verify(b"onus-3", log, &witnesses, 2).is_err(), "one witness is not two");
    assert!(proof.verify(b"onus-3", log, &[], 1).is_err());
    assert!(proof.verify_leaf(&leaf_hash(b"onus-3"), &witnesses[0], &[], 0).is_err());

    let with_extra = TlogProof { extra: Some(b"name".to_vec()), ..proof };
    assert_eq!(TlogProof::parse(&with_extra.to_string()).unwrap(), with_extra);

    for (from, to) in [
        ("index 3", "index 03"),
        ("index 3", "index +3"),
        ("index 3", "index 3\nindex 3"),
        ("index 3", "extra A\nindex 3"),
        ("@v1", "@v2"),
        ("\nindex 3", ""),
        ("qrh7", "qrh!"),
    ] {
        assert!(TlogProof::parse(&file.replacen(from, to, 1)).is_err(), "{to}");
    }
    // Any other index is well-formed but must not verify.
    for index in [0, 1, 2, 4, 5, 6, 7, u64::MAX] {
        let moved = file.replace("index 3", &format!("index {index}"));
        let moved = TlogProof::parse(&moved).unwrap();
        assert!(moved.verify(b"onus-3", log, &witnesses, 1).is_err(), "{index}");
    }
}
