//! Makes a device folder like that of the measured heavy user, for trying things out:
//! `cargo xtask heavy-user --scale 0.01 --out DIR`.
#![expect(clippy::print_stderr, reason = "a tool for developers")]

#[path = "../../tests/heavy/generate.rs"]
mod generate;
#[path = "../../tests/heavy/project.rs"]
mod project;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use coditect_local_store::{LocalStore, Random};

use generate::{Made, fill};

const USAGE: &str = "usage: heavy-user --scale F --out DIR [--seed N]";

fn main() -> Result<(), Box<dyn Error>> {
    let (mut scale, mut out, mut seed) = (0.01, None, 1);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--scale" => scale = value.parse()?,
            "--out" => out = Some(PathBuf::from(value)),
            "--seed" => seed = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let folder = out.ok_or(USAGE)?.join(".coditect-data/context-storage");
    let mut store = LocalStore::open(&folder, 0, Random::Seeded(seed))?;
    let wanted = Made::of_scale(scale);
    let started = Instant::now();
    let mut shown = 0;
    fill(
        &mut store,
        wanted,
        seed,
        |_| {},
        |done| {
            if done / 50_000 > shown || done == wanted.rows() {
                shown = done / 50_000;
                let rate = done as f64 / started.elapsed().as_secs_f64();
                eprintln!("{done} of {} rows, {rate:.0} a second", wanted.rows());
            }
        },
    )?;
    eprintln!("{}", folder.display());
    Ok(())
}
