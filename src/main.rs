//! The `domicile` program.

fn main() {}
