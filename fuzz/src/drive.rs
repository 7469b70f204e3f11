//! Runs the fuzz targets on mutants of their corpus, with any compiler: `drive COUNT [SEED [TARGET]...]`.
//!
//! A panic prints the bytes and ends it with status 1. What still ran when it ends is printed for each target.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use pgio_fuzz::{TARGETS, Target, mutant};

/// How many mutants take the place of a seed now and then, so that mutants become mutants of mutants.
const GENERATION: usize = 256;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let names: Vec<_> = arguments.collect();
    let chosen = TARGETS.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name));
    let mut is_good = true;
    for target in chosen {
        is_good &= run(target, count, seed);
    }
    ExitCode::from(u8::from(!is_good))
}

/// Runs a target so many times; false where it panics.
fn run(&(name, target): &Target, count: u64, seed: u64) -> bool {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut seeds: Vec<_> = corpus
        .read_dir()
        .expect("there is a corpus")
        .map(|entry| std::fs::read(entry.expect("it can be read").path()).expect("it can be read"))
        .collect();
    seeds.sort();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut young: Vec<Vec<u8>> = Vec::new();
    let start = Instant::now();
    for _ in 0..count {
        let parents = if random.u8(..4) == 0 && !young.is_empty() { &young } else { &seeds };
        let parent = random.choice(parents).cloned().unwrap_or_default();
        let bytes = mutant(&parent, &seeds, &mut random);
        if catch_unwind(|| target(&bytes)).is_err() {
            println!("{name} fails on b\"{}\"", bytes.escape_ascii());
            return false;
        }
        if bytes.len() < 64 << 10 {
            match young.len() < GENERATION {
                true => young.push(bytes),
                false => young[random.usize(..GENERATION)] = bytes,
            }
        }
    }
    println!("{name}: {count} executions in {:.1?}", start.elapsed());
    true
}
