//! The secret of an instance: proves to root's broker ([`crate::broker`]) that a process belongs to it.
//!
//! `wrap` creates it and writes it to the companion (0600) and into the environment of the instance's programs. It is
//! never printed: there is no `Display`, and `Debug` hides it. Pure.
use crate::text::Text;

/// Number of random bytes in a secret.
pub const SECRET_BYTES: usize = 16;

/// Characters of a secret, which are hexadecimal digits.
const DIGITS: usize = 2 * SECRET_BYTES;

/// A secret.
#[derive(Clone, Copy)]
pub struct Secret(Text<DIGITS>);

// === impl Secret ===

impl Secret {
    /// The secret with these random bytes.
    pub fn of(random: [u8; SECRET_BYTES]) -> Self {
        let mut text = Text::new();
        for byte in random {
            text.push_hex(u64::from(byte), 2);
        }
        Self(text)
    }

    /// Reads a secret as [`reveal`](Self::reveal) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == DIGITS && text.bytes().all(digits)).then(|| Text::of(text).map(Self)).flatten()
    }

    /// The secret itself. Use it only for the companion, the environment of programs and requests to the broker.
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `claimed` is this secret. Takes the same time for every text of that length, so that nobody can guess
    /// the secret character by character.
    pub fn is(&self, claimed: &str) -> bool {
        let own = self.0.as_bytes();
        let difference =
            own.iter().zip(claimed.as_bytes()).fold(0, |difference, (own, other)| difference | (own ^ other));
        own.len() == claimed.len() && core::hint::black_box(difference) == 0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.reveal())
    }
}

impl Eq for Secret {}

impl core::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

#[cfg(feature = "std")]
mod json {
    use super::Secret;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for Secret {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.reveal())
        }
    }

    impl<'de> Deserialize<'de> for Secret {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            // The message must not repeat the text.
            Self::parse(&text).ok_or_else(|| D::Error::custom("a secret is 32 hexadecimal digits"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_is_nothing_else() {
        let secret = Secret::of(core::array::from_fn(|index| u8::try_from(index * 16).unwrap_or(0)));
        assert_eq!(secret.reveal(), "00102030405060708090a0b0c0d0e0f0");
        assert_eq!(Secret::parse(secret.reveal()), Some(secret));
        assert!(secret.is("00102030405060708090a0b0c0d0e0f0"));
        for other in ["", "0", "00102030405060708090a0b0c0d0e0f1", "00102030405060708090a0b0c0d0e0f00"] {
            assert!(!secret.is(other), "{other}");
        }
        // Differences do not cancel each other out.
        let other = "11102030405060708090a0b0c0d0e0f0";
        assert!(!secret.is(other) && secret.reveal()[2..] == other[2..]);
        assert_ne!(Secret::parse(other), Some(secret));
        for bad in ["", "00102030405060708090A0B0C0D0E0F0", "00102030405060708090a0b0c0d0e0fg"] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_is_never_printed() {
        let secret = Secret::of([0xab; SECRET_BYTES]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
        let error = serde_json::from_str::<Secret>("\"abc\"").unwrap_err().to_string();
        assert!(!error.contains("abc"), "{error}");
    }
}
