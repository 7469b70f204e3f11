//! A short run of the fuzz targets over their corpus, always the same. `cargo fuzz run TARGET` is the long one.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// The number of mutants of each seed. All its prefixes are tried as well.
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
                run(name, target, &fuzz::mutant(seed, &seeds, &mut random));
            }
        }
    }
}

fn run(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let outcome = catch_unwind(|| target(bytes));
    assert!(outcome.is_ok(), "{name} fails on {}", bytes.escape_ascii());
}
