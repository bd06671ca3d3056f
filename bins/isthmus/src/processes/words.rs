//! What `isthmus up` tells whoever started it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use isthmus_runtime::{Profile, StateLayout, SupervisionEvent};

/// Bytes at the end of a log that its last line is looked for in.
const LAST_WORDS: usize = 4096;

/// What a person needs to know once the API answers; `new` if its first account was made just now.
pub fn welcome(layout: &StateLayout, url: &str, new: bool) -> anyhow::Result<String> {
    let credentials = layout.credentials();
    let profile = Profile::load(&credentials)?;
    let mut text = format!("up: the API answers at {url}");
    match (new, profile) {
        (true, Some(_)) => text.push_str(&format!(
            "\n\nAn account with one administrator was made. Its API key is in\n  {}\nwhich only root can read; \
             the commands of isthmus use it by themselves:\n  isthmus --state-dir {} status\n\
             Other clients exchange the key for a token at\n  {url}/identity/token",
            credentials.display(),
            layout.root().display()
        )),
        (false, Some(_)) => text.push_str(&format!("; log in with the key in {}", credentials.display())),
        (true | false, None) => {}
    }
    Ok(text)
}

/// What happened to a child, in words.
pub fn tell(name: &str, event: &SupervisionEvent, log: &Path) -> String {
    match event {
        SupervisionEvent::Adopted { pid } => format!("{name}: found at work as process {pid}"),
        SupervisionEvent::Ended { how, retry_in } => format!(
            "{name}: ended ({how}), starts again{}\n  the end of {}:\n  {}",
            if retry_in.is_zero() {
                String::new()
            } else {
                format!(" in {:.1} s", retry_in.as_secs_f32())
            },
            log.display(),
            last_line(log)
        ),
        SupervisionEvent::Started { pid } => format!("{name}: started as process {pid}"),
        SupervisionEvent::Stopped => format!("{name}: stopped"),
    }
}

/// The last thing that a process wrote to its log: the reason, if it ended by itself.
fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]).into_owned();
    text.trim_end().lines().next_back().unwrap_or_default().to_owned()
}

/// Progress for whoever started this; it need not be read.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
