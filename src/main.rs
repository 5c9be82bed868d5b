//! The `domicile` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    domicile::cli::main()
}
