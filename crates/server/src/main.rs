//! The program `coditect-server`.

fn main() {}
