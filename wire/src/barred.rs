//! The page of barred ports: ports of the host that an instance must not reach, because another fork is behind them.
//! The collector writes the file under another name and renames it, so a reader sees a whole one. The library looks into
//! it before a connect goes to the host. The rows follow [`MAGIC`], [`ROW_BYTES`] each.

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"afsbar1\n";

/// Bytes of one row: port (2, little endian), reason (1), zeros (5), instance (8, little endian).
pub const ROW_BYTES: usize = 16;

/// Why a port is barred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// The instance had a listener there, and has none now: whoever answers on the host is another program.
    OwnPort,
    /// agentfs holds the host's port for the row's instance (`forward`, `--expose`): every other one is refused.
    HeldFor,
    /// A program of the host holds it that runs in another checkout of the same repository.
    OtherCheckout,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The host's port.
    pub port: u16,
    /// Why.
    pub bar: Bar,
    /// The instance, as [`crate::peer::space`] numbers it.
    pub instance: u64,
}

// === impl Row ===

impl Row {
    /// The row as it is in the file.
    #[must_use]
    pub fn encode(self) -> [u8; ROW_BYTES] {
        let [low, high] = self.port.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = self.instance.to_le_bytes();
        let bar = match self.bar {
            Bar::OwnPort => 1,
            Bar::HeldFor => 2,
            Bar::OtherCheckout => 3,
        };
        [low, high, bar, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]
    }

    /// Reads a row; nothing where it is not one, or of a newer collector.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [low, high, bar, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h] = *bytes else { return None };
        let bar = match bar {
            1 => Bar::OwnPort,
            2 => Bar::HeldFor,
            3 => Bar::OtherCheckout,
            _ => return None,
        };
        let port = u16::from_le_bytes([low, high]);
        Some(Self { port, bar, instance: u64::from_le_bytes([a, b, c, d, e, f, g, h]) })
    }

    /// Why `instance` must not reach the host's `port`, if this row says so.
    #[must_use]
    pub fn bars(self, instance: u64, port: u16) -> Option<Bar> {
        let meant = match self.bar {
            Bar::HeldFor => self.instance != instance,
            Bar::OwnPort | Bar::OtherCheckout => self.instance == instance,
        };
        (meant && self.port == port).then_some(self.bar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARS: [Bar; 3] = [Bar::OwnPort, Bar::HeldFor, Bar::OtherCheckout];

    #[test]
    fn rows_come_back() {
        for bar in BARS {
            let row = Row { port: 0x1234, bar, instance: 0x0102_0304_0506_0708 };
            assert_eq!(Row::decode(&row.encode()), Some(row));
        }
        let row = Row { port: 80, bar: Bar::HeldFor, instance: 7 }.encode();
        assert_eq!((Row::decode(&row[1..]), Row::decode(&[0; ROW_BYTES])), (None, None));
        for place in [2, 5] {
            let mut other = row;
            other[place] = 9;
            assert_eq!(Row::decode(&other), None);
        }
    }

    #[test]
    fn a_port_that_is_held_is_barred_for_the_others() {
        for (bar, own) in BARS.into_iter().zip([true, false, true]) {
            let row = Row { port: 80, bar, instance: 7 };
            assert_eq!(row.bars(7, 80).is_some(), own, "{bar:?}");
            assert_eq!(row.bars(8, 80).is_some(), !own, "{bar:?}");
            assert_eq!((row.bars(7, 81), row.bars(8, 81)), (None, None));
        }
    }
}
