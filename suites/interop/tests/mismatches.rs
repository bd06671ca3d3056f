//! Runs the deliberate mismatches; see `mismatches.txt` of this package.

fn main() -> std::process::ExitCode {
    isthmus_interop::mismatches()
}
