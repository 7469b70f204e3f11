//! The `pgio` program: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgio::cli::main()
}
