//! Kernel parameters of the namespace that the calling thread is in.

use std::fs;
use std::io;

/// Reads one, without its line end; none if the kernel has no such parameter here.
pub(crate) fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(file(path)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one.
pub(crate) fn write(path: &str, value: &str) -> io::Result<()> {
    fs::write(file(path), value)
}

fn file(path: &str) -> String {
    format!("/proc/sys/{path}")
}
