//! Runs the search for secrets in the daemon's memory; see the library of this package.

fn main() -> std::process::ExitCode {
    isthmus_interop::memory()
}
