//! Names that are made up for resources whose maker gave none.

use isthmus_types::{ResourceBits, ResourceName};

const WORDS: [&str; 128] = [
    "acorn", "alder", "amber", "anchor", "apple", "arbor", "aspen", "atlas", "autumn", "badge", "bamboo",
    "barley", "basil", "beacon", "berry", "birch", "bison", "blossom", "breeze", "brook", "cactus", "canyon",
    "cedar", "cherry", "cinder", "citrus", "clover", "cobalt", "comet", "copper", "coral", "cotton",
    "crater", "cricket", "crystal", "cypress", "daisy", "dapper", "delta", "desert", "dragon", "drift",
    "dune", "eagle", "ember", "falcon", "fern", "fiddle", "finch", "fjord", "flint", "forest", "fossil",
    "garnet", "gentle", "ginger", "glacier", "granite", "grove", "harbor", "hazel", "heron", "hickory",
    "hollow", "indigo", "island", "ivory", "jasper", "juniper", "kestrel", "lagoon", "lantern", "laurel",
    "lemon", "lichen", "linden", "lotus", "magnet", "mango", "maple", "marble", "meadow", "melon", "meteor",
    "mint", "mosaic", "nectar", "nimble", "nutmeg", "oasis", "ocean", "olive", "onyx", "opal", "orchid",
    "otter", "pebble", "pepper", "pine", "plume", "poplar", "prairie", "quartz", "quiet", "raven", "reef",
    "ripple", "river", "robin", "saffron", "sage", "sequoia", "silver", "sparrow", "spruce", "summit",
    "sunny", "thicket", "thistle", "timber", "topaz", "tulip", "tundra", "velvet", "violet", "walnut",
    "willow", "zephyr",
];

/// Four words, chosen by the lowest 28 bits of `bits`.
pub(crate) fn made_up(bits: ResourceBits) -> ResourceName {
    let value = bits.value();
    let word = |position: u32| WORDS[((value >> (7 * position)) & 127) as usize];
    ResourceName::new(format!("{}-{}-{}-{}", word(0), word(1), word(2), word(3)))
        .expect("four short words make a valid name")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_distinct_and_fit_the_strictest_dialect() {
        assert_eq!(WORDS.iter().collect::<BTreeSet<_>>().len(), WORDS.len());
        let longest = WORDS.iter().map(|word| word.len()).max().unwrap();
        assert!(4 * longest + 3 <= 63);
        assert!(
            WORDS
                .iter()
                .all(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }

    #[test]
    fn different_bits_make_different_names() {
        let names: BTreeSet<_> = (0..1000u128)
            .map(|n| made_up(ResourceBits::from_random(n)))
            .collect();
        assert_eq!(names.len(), 1000);
    }
}
