//! Where new ids come from.

use isthmus_types::ResourceBits;

/// A source of random ids. The shell gives one that draws from the system's generator; tests give a counting one.
pub trait IdSource {
    /// Draws the bits of a new id.
    fn draw(&mut self) -> ResourceBits;
}

impl<F: FnMut() -> ResourceBits> IdSource for F {
    fn draw(&mut self) -> ResourceBits {
        self()
    }
}
