//! Randomness from the operating system, fit for keys and ids.

use isthmus_types::{ResourceBits, Secret};

const WORD_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `N` random bytes.
///
/// # Panics
/// If the kernel has no random number generator; nothing can be done safely then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0; N];
    fill(&mut buffer);
    buffer
}

/// Fills `buffer` with random bytes.
///
/// # Panics
/// If the kernel has no random number generator; nothing can be done safely then.
pub fn fill(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the kernel has a random number generator");
}

/// The bits of a new resource id.
pub fn resource_bits() -> ResourceBits {
    ResourceBits::from_random(u128::from_le_bytes(bytes()))
}

/// A secret of `length` characters out of letters, digits, `-` and `_`: six random bits in each.
pub fn secret_word(length: usize) -> Secret {
    let mut raw = vec![0; length];
    fill(&mut raw);
    let word = raw
        .iter()
        .map(|byte| char::from(WORD_ALPHABET[usize::from(byte & 63)]))
        .collect();
    Secret::new(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_words_have_the_length_asked_for_and_differ() {
        let word = secret_word(43);
        assert_eq!(word.reveal().len(), 43);
        assert_ne!(word, secret_word(43));
        assert_ne!(resource_bits(), resource_bits());
    }
}
