//! The `clippy.toml` of each pure crate, written from one source: the root file plus what purity forbids.
//!
//! Clippy reads the nearest `clippy.toml` only; a nested one replaces the root one, so each repeats it.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, bail};

use crate::command::{root, say};
use crate::edges;

const METHODS: &[(&str, &str)] = &[
    ("std::time::Instant::now", "time is an argument"),
    ("std::time::SystemTime::now", "time is an argument"),
    ("std::thread::sleep", "time is an argument"),
    ("rand::rng", "randomness is given at construction"),
    ("rand::random", "randomness is given at construction"),
    ("std::fs::copy", "no files"),
    ("std::fs::create_dir", "no files"),
    ("std::fs::create_dir_all", "no files"),
    ("std::fs::metadata", "no files"),
    ("std::fs::read", "no files"),
    ("std::fs::read_dir", "no files"),
    ("std::fs::read_to_string", "no files"),
    ("std::fs::remove_dir", "no files"),
    ("std::fs::remove_dir_all", "no files"),
    ("std::fs::remove_file", "no files"),
    ("std::fs::rename", "no files"),
    ("std::fs::write", "no files"),
    ("tokio::spawn", "no runtime"),
    ("tokio::task::spawn_blocking", "no runtime"),
    ("tokio::time::sleep", "no runtime"),
];

const TYPES: &[(&str, &str)] = &[
    ("std::fs::DirBuilder", "no files"),
    ("std::fs::File", "no files"),
    ("std::fs::OpenOptions", "no files"),
    ("std::net::TcpListener", "no sockets"),
    ("std::net::TcpStream", "no sockets"),
    ("std::net::UdpSocket", "no sockets"),
    ("std::os::unix::net::UnixDatagram", "no sockets"),
    ("std::os::unix::net::UnixListener", "no sockets"),
    ("std::os::unix::net::UnixStream", "no sockets"),
    ("std::process::Command", "no processes"),
    ("rand::rngs::ThreadRng", "randomness is given at construction"),
    ("tokio::runtime::Runtime", "no runtime"),
];

/// Writes the files, or fails if one is not as it would be written.
pub fn run(check: bool) -> anyhow::Result<()> {
    let base = root().join("clippy.toml");
    let base = fs::read_to_string(&base).with_context(|| format!("cannot read {}", base.display()))?;
    let wanted = render(&base);
    let mut changed = Vec::new();
    for name in edges::pure() {
        let path = root().join("crates").join(name).join("clippy.toml");
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        changed.push(format!("crates/{name}/clippy.toml"));
        if !check {
            fs::write(&path, &wanted).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    match (changed.is_empty(), check) {
        (true, _) => say("every pure crate has its clippy.toml"),
        (false, true) => bail!(
            "not as `cargo xtask clippy-files` writes them: {}",
            changed.join(", ")
        ),
        (false, false) => say(&format!("wrote {}", changed.join(", "))),
    }
}

fn render(base: &str) -> String {
    let mut text = format!(
        "# Written by `cargo xtask clippy-files`: the root clippy.toml and what purity forbids.\n{base}"
    );
    for (key, entries) in [("disallowed-methods", METHODS), ("disallowed-types", TYPES)] {
        let _ = writeln!(text, "{key} = [");
        for (path, reason) in entries {
            let _ = writeln!(
                text,
                "    {{ path = \"{path}\", reason = \"{reason}\", allow-invalid = true }},"
            );
        }
        text.push_str("]\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_root_file_and_adds_the_bans() {
        let text = render("too-many-lines-threshold = 120\n");
        assert!(text.contains("\ntoo-many-lines-threshold = 120\n"));
        assert!(text.contains("std::time::Instant::now"));
        assert!(text.contains("std::net::UdpSocket"));
    }
}
