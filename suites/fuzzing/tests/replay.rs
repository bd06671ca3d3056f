//! Every file that fuzzing left: none makes its target panic.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that says how much it did"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use isthmus_fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a directory, in order; none if it is not there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let corpus = files(&fuzz().join("corpus").join(target));
    let crashes = files(&fuzz().join("crashes").join(target));
    assert!(!corpus.is_empty(), "{target} has no corpus");
    for file in corpus.iter().chain(&crashes) {
        let name = file.display();
        let data = fs::read(file).unwrap();
        let outcome = std::panic::catch_unwind(|| body(&data));
        assert!(outcome.is_ok(), "{target} fails on {name}");
    }
    println!(
        "{target}: {} of the corpus, {} crashes",
        corpus.len(),
        crashes.len()
    );
}

macro_rules! replays {
    ($($target:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*
    };
}

replays! { certificates esp_open ike_message ike_peer ike_stranger isakmp_message isakmp_peer isakmp_stranger offload packets tunnel_request }

#[test]
fn every_target_is_replayed_and_has_a_binary() {
    let bodies: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    let binaries: BTreeSet<String> = files(&fuzz().join("fuzz_targets"))
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(bodies, replayed);
    assert_eq!(bodies, binaries);
}
