//! Public corpora beside the repository: RFC 6962 proofs, good and spoilt, and C2SP's examples.

use std::path::Path;

use onus_ledger::{Checkpoint, Hash, Note, TlogProof, verify_consistency, verify_inclusion};
use serde_json::Value;

fn rows(file: &str) -> Option<Vec<Value>> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let Ok(text) = std::fs::read_to_string(corpora.join(file)) else {
        println!("skipped: no corpora");
        return None;
    };
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Some(rows.collect())
}

/// `None` where a value does not have the form of a hash, which is a refusal as well.
fn hash(value: &Value) -> Option<Hash> {
    Hash::from_base64(value.as_str()?).ok()
}

fn path(value: &Value) -> Option<Vec<Hash>> {
    match value {
        Value::Null => Some(Vec::new()),
        value => value.as_array()?.iter().map(hash).collect(),
    }
}

#[test]
fn inclusion_proofs() {
    let Some(rows) = rows("merkle-proofs/inclusion.jsonl") else {
        return;
    };
    for row in &rows {
        let holds = (|| {
            let (index, size) = (row["leafIdx"].as_u64()?, row["treeSize"].as_u64()?);
            let (leaf, root) = (hash(&row["leafHash"])?, hash(&row["root"])?);
            verify_inclusion(index, size, &leaf, &path(&row["proof"])?, &root).ok()
        })();
        assert_eq!(holds.is_none(), row["wantErr"].as_bool().unwrap(), "{row}");
    }
    assert!(rows.len() >= 35);
}

#[test]
fn consistency_proofs() {
    let Some(rows) = rows("merkle-proofs/consistency.jsonl") else {
        return;
    };
    for row in &rows {
        let holds = (|| {
            let (old, new) = (row["size1"].as_u64()?, row["size2"].as_u64()?);
            let (old_root, new_root) = (hash(&row["root1"])?, hash(&row["root2"])?);
            verify_consistency(old, new, &path(&row["proof"])?, &old_root, &new_root).ok()
        })();
        assert_eq!(holds.is_none(), row["wantErr"].as_bool().unwrap(), "{row}");
    }
    assert!(rows.len() >= 22);
}

/// A subtree `start..end` is a tree of its own: its inclusion proofs are those of that tree.
#[test]
fn inclusion_proofs_of_subtrees() {
    let Some(rows) = rows("merkle-proofs/subtreeinclusion.jsonl") else {
        return;
    };
    for row in &rows {
        let holds = (|| {
            let number = |key: &str| row[key].as_u64();
            let (start, end) = (number("start")?, number("end")?);
            let width = end.checked_sub(start)?;
            if start % width.checked_next_power_of_two()? != 0 {
                return None;
            }
            let index = number("leafIdx")?.checked_sub(start)?;
            let (leaf, root) = (hash(&row["leafHash"])?, hash(&row["root"])?);
            verify_inclusion(index, width, &leaf, &path(&row["proof"])?, &root).ok()
        })();
        assert_eq!(holds.is_none(), row["wantErr"].as_bool().unwrap(), "{row}");
    }
}

#[test]
fn examples_of_the_specifications() {
    let Some(rows) = rows("c2sp-tlog-examples/examples.jsonl") else {
        return;
    };
    let (mut notes, mut checkpoints) = (0, 0);
    for row in &rows {
        let text = row["text"].as_str().unwrap();
        // Shortened examples (`[...]`) are not base64 and must be refused, not skipped.
        let complete = !text.contains("[...]");
        match row["doc"].as_str().unwrap() {
            "tlog-proof.md" => {
                let file = format!("{text}\n");
                let proof = TlogProof::parse(&file).unwrap();
                assert_eq!((proof.index, proof.path.len()), (73894, 5));
                assert_eq!(proof.to_string(), file);
                // Its checkpoint is shortened, so it must not pass for one.
                assert!(!complete && Note::parse(&proof.checkpoint).is_err());
            }
            doc @ ("signed-note.md" | "tlog-checkpoint.md" | "tlog-cosignature.md") => {
                assert!(complete);
                let note = Note::parse(&format!("{text}\n")).unwrap();
                assert_eq!(note.to_string(), format!("{text}\n"));
                notes += 1;
                if doc != "signed-note.md" {
                    let checkpoint = Checkpoint::parse(note.text()).unwrap();
                    assert_eq!(checkpoint.size, 20_852_163);
                    assert_eq!(checkpoint.to_string(), note.text());
                    checkpoints += 1;
                }
            }
            _ => {}
        }
    }
    assert!(notes >= 4 && checkpoints >= 2, "{notes} {checkpoints}");
}
