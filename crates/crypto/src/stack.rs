//! What calls that have returned leave on the stack.

use std::hint::black_box;

use zeroize::Zeroize;

/// Bytes that a key schedule and the frames that make it take at most, with much to spare.
const DEPTH: usize = 16 << 10;

/// Overwrites the stack below the caller. A key schedule that is made on the stack and moved to the heap leaves a copy of
/// itself there: whoever makes one in a function that is not inlined calls this afterwards.
#[inline(never)]
pub(crate) fn erase() {
    let mut below = [0_u8; DEPTH];
    // Written, not optimised away: nobody reads it.
    black_box(&mut below).zeroize();
}
