//! What calls that have returned leave on the stack.

use std::hint::black_box;

/// Bytes that an HMAC and the frames that compute it take at most, with much to spare.
pub(crate) const HASH: usize = 4 << 10;
/// The same of a key schedule, and of what a library does on an elliptic curve.
pub(crate) const KEY_SCHEDULE: usize = 16 << 10;
/// The same of a power in the largest MODP group, which takes a table of powers.
pub(crate) const POWER: usize = 64 << 10;

/// Overwrites as many bytes of the stack below the caller. A key that is made on the stack and moved to the heap leaves a
/// copy of itself there, and libraries spill keys and results: whoever calls such a function, which must not be inlined,
/// calls this afterwards.
///
/// It is called several times in each handshake. So the bytes are not written one by one, each for itself, as volatile
/// ones would be: the array is filled at once, and must be, since somebody may look at it.
#[inline(never)]
pub(crate) fn erase<const BYTES: usize>() {
    black_box(&mut [0_u8; BYTES]);
}
