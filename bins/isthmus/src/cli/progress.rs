//! Progress on standard error: a spinner at a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of one piece of work, step by step.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    step: Option<(String, Instant)>,
}

impl Progress {
    /// Nothing shown yet.
    pub const fn new() -> Self {
        Self {
            bar: None,
            step: None,
        }
    }

    /// Begins a step; the one before it is done.
    pub fn begin(&mut self, step: impl Into<String>) {
        self.finish("✓");
        let step = step.into();
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_message(step.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
        self.step = Some((step, Instant::now()));
    }

    /// Tells how far the step is, to someone at a terminal.
    pub fn tick(&self, note: &str) {
        if let (Some((step, _)), Some(bar)) = (&self.step, &self.bar) {
            bar.set_message(format!("{step}: {note}"));
        }
    }

    /// Adds what is known of the step so far.
    pub fn note(&self, note: &str) {
        let Some((step, _)) = &self.step else { return };
        match &self.bar {
            Some(bar) => bar.set_message(format!("{step}: {note}")),
            None => line(&format!("  {step}: {note}")),
        }
    }

    /// The step is done.
    pub fn end(&mut self) {
        self.finish("✓");
    }

    /// The step failed.
    pub fn fail(&mut self) {
        self.finish("✗");
    }

    fn finish(&mut self, mark: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some((step, begin)) = self.step.take() {
            line(&format!("{mark} {step} ({:.2} s)", begin.elapsed().as_secs_f64()));
        }
    }
}

fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
