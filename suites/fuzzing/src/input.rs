//! Cutting an input into the choices and the bytes that a target needs.

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of it.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; zero after the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn half(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A length of two bytes and as many bytes, or as many as there are.
    pub fn block(&mut self) -> &'a [u8] {
        let length = usize::from(self.half()).min(self.0.len());
        let (block, rest) = self.0.split_at(length);
        self.0 = rest;
        block
    }

    /// Everything that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
