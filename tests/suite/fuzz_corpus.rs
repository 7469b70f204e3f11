//! A short run of the fuzz targets over their corpus, the same each time: `cargo fuzz run TARGET` is the long one.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// How many mutants of each seed are tried, beside all its beginnings.
const MUTANTS: usize = 400;

#[test]
fn no_bytes_upset_the_decoders() {
    for (name, target) in fuzz::TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut seeds: Vec<_> =
            corpus.read_dir().unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no corpus");
        let mut random = fastrand::Rng::with_seed(1);
        for seed in &seeds {
            for end in 0..=seed.len() {
                run(name, target, &seed[..end]);
            }
            for _ in 0..MUTANTS {
                run(name, target, &mutant(seed, &seeds, &mut random));
            }
        }
    }
}

fn run(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let outcome = catch_unwind(|| target(bytes));
    assert!(outcome.is_ok(), "{name} fails on {}", bytes.escape_ascii());
}

/// A seed with a few bytes changed, removed or doubled, or with the end of another one.
fn mutant(seed: &[u8], seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let from = random.usize(..=at);
                let piece = bytes[from..at].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = random.choice(seeds).map_or(&[][..], Vec::as_slice);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    bytes
}
