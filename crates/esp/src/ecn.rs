//! Explicit congestion notification through a tunnel (RFC 6040, normal mode).

use isthmus_types::DscpPolicy;

const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Outer traffic class of a packet with `inner` class: ECN is copied (section 4.1), DSCP as the policy says.
pub const fn encapsulate(inner: u8, dscp: DscpPolicy) -> u8 {
    match dscp {
        DscpPolicy::Clear => inner & ECN_MASK,
        DscpPolicy::Copy => inner,
    }
}

/// Inner traffic class of a packet that arrived with `outer` class (section 4.2). The DSCP is kept as it was inside.
/// None if the packet must be dropped.
pub const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(inner | CE),
        (ECT_0, ECT_1) => Some((inner & !ECN_MASK) | ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_goes_out_if_it_may_and_the_congestion_bits_always() {
        assert_eq!(encapsulate(0xb8 | ECT_0, DscpPolicy::Copy), 0xb8 | ECT_0);
        assert_eq!(encapsulate(0xb8 | CE, DscpPolicy::Clear), CE);
    }

    #[test]
    fn follows_the_table_of_rfc_6040_section_4_2() {
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, results) in rows {
            for (outer, result) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(results) {
                assert_eq!(
                    decapsulate(0xb8 | inner, 0x20 | outer),
                    result.map(|ecn| 0xb8 | ecn)
                );
            }
        }
    }
}
