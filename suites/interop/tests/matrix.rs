//! Runs the interoperability matrix; see the library of this package.

fn main() -> std::process::ExitCode {
    isthmus_interop::main()
}
