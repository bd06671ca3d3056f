//! MODP groups with generator 2, in Montgomery form and constant time.
//!
//! The moduli are safe primes, so a public value in `2..=p-2` generates a subgroup of order `q` or `2q`, and an
//! exponent of about twice the group's strength is as good as a full one (RFC 7919 section 5.2).

use std::sync::OnceLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U512, U1024, U1536, U2048, U3072, U4096, U6144, U8192, Uint};
use isthmus_types::DhGroup;
use zeroize::Zeroizing;

use super::DhError;
use super::primes::{MODP_1024, MODP_1536, MODP_2048, MODP_3072, MODP_4096, MODP_6144, MODP_8192};

const EXPONENT_BYTES: usize = 64;

/// A power in one group, by base, exponent and the exponent's bits.
type Raise = fn(&[u8], &U512, u32) -> Option<Zeroizing<Vec<u8>>>;

/// One group: what to raise in it.
#[derive(Clone, Copy)]
pub(super) struct Modp {
    /// Bits of a private exponent.
    exponent_bits: u32,
    /// Bytes of the modulus.
    len: usize,
    /// `base^exponent mod p` big-endian; none if the base is not in `2..=p-2`.
    power: Raise,
}

pub(super) struct Exponent {
    modp: Modp,
    /// Big-endian.
    bytes: Zeroizing<[u8; EXPONENT_BYTES]>,
}

macro_rules! power {
    ($name:ident, $uint:ty, $prime:expr) => {
        fn $name(base: &[u8], exponent: &U512, bits: u32) -> Option<Zeroizing<Vec<u8>>> {
            static PARAMS: OnceLock<FixedMontyParams<{ <$uint>::LIMBS }>> = OnceLock::new();
            let params =
                PARAMS.get_or_init(|| FixedMontyParams::new_vartime(Odd::<$uint>::from_be_hex($prime)));
            let base = <$uint>::from_be_slice(base);
            raise(params, &base, exponent, bits)
                .map(|power| Zeroizing::new(power.to_be_bytes().as_ref().to_vec()))
        }
    };
}

power!(power_1024, U1024, MODP_1024);
power!(power_1536, U1536, MODP_1536);
power!(power_2048, U2048, MODP_2048);
power!(power_3072, U3072, MODP_3072);
power!(power_4096, U4096, MODP_4096);
power!(power_6144, U6144, MODP_6144);
power!(power_8192, U8192, MODP_8192);

fn raise<const LIMBS: usize>(
    params: &FixedMontyParams<LIMBS>,
    base: &Uint<LIMBS>,
    exponent: &U512,
    bits: u32,
) -> Option<Uint<LIMBS>> {
    let modulus: &Uint<LIMBS> = params.modulus().as_ref();
    let highest = modulus.wrapping_sub(&Uint::from_u8(2));
    if *base < Uint::from_u8(2) || *base > highest {
        return None;
    }
    Some(
        FixedMontyForm::new(base, params)
            .pow_bounded_exp(exponent, bits)
            .retrieve(),
    )
}

impl Modp {
    pub(super) fn of(group: DhGroup) -> Option<Self> {
        let (exponent_bits, len, power): (u32, usize, Raise) = match group {
            DhGroup::Modp1024 => (256, 128, power_1024),
            DhGroup::Modp1536 => (256, 192, power_1536),
            DhGroup::Modp2048 => (256, 256, power_2048),
            DhGroup::Modp3072 => (320, 384, power_3072),
            DhGroup::Modp4096 => (384, 512, power_4096),
            DhGroup::Modp6144 => (448, 768, power_6144),
            DhGroup::Modp8192 => (512, 1024, power_8192),
            DhGroup::Ecp256 | DhGroup::Ecp384 | DhGroup::Ecp521 | DhGroup::X25519 => return None,
        };
        Some(Self {
            exponent_bits,
            len,
            power,
        })
    }
}

impl Exponent {
    pub(super) fn generate(modp: Modp) -> Result<Self, DhError> {
        let mut bytes = Zeroizing::new([0; EXPONENT_BYTES]);
        let used = modp.exponent_bits as usize / 8;
        let (_, low) = bytes.split_at_mut(EXPONENT_BYTES - used);
        crate::random::fill(low).map_err(|_| DhError::Generate)?;
        // The top bit makes the exponent as long as it should be, and never zero.
        if let Some(top) = low.first_mut() {
            *top |= 0x80;
        }
        Ok(Self { modp, bytes })
    }

    #[cfg(test)]
    pub(super) fn from_bytes(modp: Modp, exponent: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; EXPONENT_BYTES]);
        bytes[EXPONENT_BYTES - exponent.len()..].copy_from_slice(exponent);
        Self { modp, bytes }
    }

    pub(super) fn public(&self) -> Vec<u8> {
        let mut base = vec![0; self.modp.len];
        if let Some(last) = base.last_mut() {
            *last = 2;
        }
        self.power(&base).expect("the generator is in range").to_vec()
    }

    /// `peer_public` has the length of the modulus.
    pub(super) fn agree(&self, peer_public: &[u8]) -> Result<Zeroizing<Vec<u8>>, DhError> {
        self.power(peer_public).ok_or(DhError::PublicValue)
    }

    fn power(&self, base: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let exponent = Zeroizing::new(U512::from_be_slice(&self.bytes[..]));
        (self.modp.power)(base, &exponent, self.modp.exponent_bits)
    }
}
