//! Resource ids: one 68-bit random number per object, typed by the kind of object.
//!
//! Each dialect writes the same bits in its own form: 17 hexadecimal digits here and in EC2, a UUID in the
//! IBM and CloudStack APIs. [`ResourceBits::to_uuid`] and [`ResourceBits::from_uuid`] are inverse to each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Number of significant bits of an id.
pub const ID_BITS: u32 = 68;

const HEX_DIGITS: usize = 17;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The bits that all forms of one id carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceBits(u128);

/// The text is not an id of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a resource id")]
pub struct IdError;

impl ResourceBits {
    /// Keeps the lowest [`ID_BITS`] bits of `random`.
    pub const fn from_random(random: u128) -> Self {
        Self(random & ((1 << ID_BITS) - 1))
    }

    /// The bits as a number below 2^68.
    pub const fn value(self) -> u128 {
        self.0
    }

    /// Writes the id as a version 8 UUID (RFC 9562 section 5.8), lower case.
    ///
    /// The 54 free bits are a checksum of the id, so that a UUID that we did not make is not mistaken for one.
    pub fn to_uuid(self) -> String {
        let uuid = self.uuid_value();
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            uuid >> 96,
            (uuid >> 80) & 0xffff,
            (uuid >> 64) & 0xffff,
            (uuid >> 48) & 0xffff,
            uuid & 0xffff_ffff_ffff
        )
    }

    /// Reads a UUID made by [`ResourceBits::to_uuid`].
    ///
    /// # Errors
    /// [`IdError`] if the text is no UUID or one that we did not make.
    pub fn from_uuid(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(IdError);
        }
        let mut value = 0u128;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return Err(IdError);
                }
                continue;
            }
            value = (value << 4) | u128::from(lower_hex_digit(*byte)?);
        }
        let bits = Self(((value >> 80) << 20) | ((value >> 42) & 0xf_ffff));
        if bits.uuid_value() == value {
            Ok(bits)
        } else {
            Err(IdError)
        }
    }

    /// Fourteen base-32 characters: short enough for a Linux interface name with one character before it.
    pub fn to_base32(self) -> String {
        (0..14)
            .rev()
            .map(|digit| BASE32[((self.0 >> (digit * 5)) & 31) as usize] as char)
            .collect()
    }

    /// Reads what [`ResourceBits::to_base32`] wrote.
    ///
    /// # Errors
    /// [`IdError`] if the text has another length or alphabet, or exceeds 68 bits.
    pub fn from_base32(text: &str) -> Result<Self, IdError> {
        if text.len() != 14 {
            return Err(IdError);
        }
        let mut value = 0u128;
        for byte in text.bytes() {
            let digit = BASE32.iter().position(|c| *c == byte).ok_or(IdError)?;
            value = (value << 5) | digit as u128;
        }
        if value >> ID_BITS == 0 {
            Ok(Self(value))
        } else {
            Err(IdError)
        }
    }

    // 48 id bits, version 8, 12 check bits, variant, 20 id bits, 42 check bits.
    fn uuid_value(self) -> u128 {
        let check = u128::from(checksum(self.0));
        let high = self.0 >> 20;
        let low = self.0 & 0xf_ffff;
        (high << 80)
            | (0x8 << 76)
            | ((check & 0xfff) << 64)
            | (0b10 << 62)
            | (low << 42)
            | ((check >> 12) & 0x3ff_ffff_ffff)
    }
}

// Two rounds of the splitmix64 finaliser over both halves.
fn checksum(value: u128) -> u64 {
    let mut state = (value as u64) ^ ((value >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    state
}

fn lower_hex_digit(byte: u8) -> Result<u8, IdError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(IdError),
    }
}

impl fmt::Display for ResourceBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:017x}", self.0)
    }
}

impl fmt::Debug for ResourceBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ResourceBits {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != HEX_DIGITS {
            return Err(IdError);
        }
        text.bytes()
            .try_fold(0u128, |value, byte| {
                Ok((value << 4) | u128::from(lower_hex_digit(byte)?))
            })
            .map(Self)
    }
}

/// Gives every typed id the same behaviour.
macro_rules! resource_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub ResourceBits);

        impl $name {
            /// The untyped bits.
            pub const fn bits(self) -> ResourceBits {
                self.0
            }
        }

        impl From<ResourceBits> for $name {
            fn from(bits: ResourceBits) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

resource_ids! {
    /// An account: the owner of resources and the unit of isolation between tenants.
    AccountId,
    /// A person or program that acts for an account.
    UserId,
    /// An API key of a user.
    ApiKeyId,
    /// A virtual private cloud.
    VpcId,
    /// A range of a VPC's addresses given to one zone.
    AddressPrefixId,
    /// A subnet ("tier").
    SubnetId,
    /// A route table.
    RouteTableId,
    /// A route in a route table.
    RouteId,
    /// A security group.
    SecurityGroupId,
    /// A network ACL.
    NetworkAclId,
    /// An instance (workload).
    InstanceId,
    /// A network interface of an instance.
    NetworkInterfaceId,
    /// A private address held in a subnet.
    ReservedIpId,
    /// A VPN gateway.
    VpnGatewayId,
    /// A member (active or standby half) of a VPN gateway.
    VpnGatewayMemberId,
    /// A customer gateway: the description of the other end of a VPN connection.
    CustomerGatewayId,
    /// A site-to-site VPN connection.
    VpnConnectionId,
    /// A named set of IKE SA parameters.
    IkePolicyId,
    /// A named set of Child SA parameters.
    IpsecPolicyId,
    /// A grouping label of the IBM dialect.
    ResourceGroupId,
    /// One instance action (start, stop, reboot).
    InstanceActionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> impl Iterator<Item = ResourceBits> {
        let all = (1u128 << ID_BITS) - 1;
        [
            0,
            1,
            all,
            all - 1,
            1 << 67,
            1 << 20,
            (1 << 20) - 1,
            0x1_2345_6789_abcd_ef01,
        ]
        .into_iter()
        .chain((0..200u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
        .map(ResourceBits::from_random)
    }

    #[test]
    fn every_form_reads_back() {
        for bits in samples() {
            assert_eq!(ResourceBits::from_uuid(&bits.to_uuid()), Ok(bits));
            assert_eq!(ResourceBits::from_base32(&bits.to_base32()), Ok(bits));
            assert_eq!(bits.to_string().parse(), Ok(bits));
            assert_eq!(bits.to_string().len(), 17);
        }
    }

    #[test]
    fn uuid_has_version_and_variant() {
        for bits in samples() {
            let uuid = bits.to_uuid();
            assert_eq!(uuid.as_bytes()[14], b'8');
            assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
        }
    }

    #[test]
    fn foreign_uuid_is_refused() {
        assert_eq!(
            ResourceBits::from_uuid("0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11"),
            Err(IdError)
        );
        let ours = ResourceBits::from_random(77).to_uuid();
        let mut changed = ours.clone().into_bytes();
        changed[35] = if changed[35] == b'0' { b'1' } else { b'0' };
        assert_eq!(
            ResourceBits::from_uuid(std::str::from_utf8(&changed).unwrap()),
            Err(IdError)
        );
        assert_eq!(ResourceBits::from_uuid(&ours[1..]), Err(IdError));
    }
}
