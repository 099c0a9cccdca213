//! The program `coditect`.

fn main() {}
