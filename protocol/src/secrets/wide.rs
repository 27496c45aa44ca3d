//! UTF-16, as Windows writes it, made into the text that everything else is looked for in. Invariant: what comes in pieces
//! of any size becomes the same text, and no more than a unit and a block of it is kept.

/// Letters that are passed on together.
const BLOCK: usize = 64 << 10;
/// Units of a text without a mark that must be seen to take it for one.
const LEAST: usize = 16;

/// A text in two bytes a unit.
#[derive(Debug)]
pub(super) struct Wide {
    big: bool,
    /// The first byte of a unit.
    half: Option<u8>,
    /// The first unit of a pair.
    high: Option<u16>,
    out: String,
}

impl Wide {
    /// What begins so, if it is UTF-16: it says so by its mark, or has a zero in every other byte.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let of = |big| Some(Self { big, half: None, high: None, out: String::new() });
        match head {
            // The mark of UTF-32 begins alike.
            [0xff, 0xfe, 0, 0, ..] => None,
            [0xff, 0xfe, ..] => of(false),
            [0xfe, 0xff, ..] => of(true),
            _ => {
                let units = head.len() / 2;
                let plain = |high: usize| {
                    let is = |unit: &&[u8]| {
                        let low = unit.get(1 - high).copied().unwrap_or(0);
                        unit.get(high) == Some(&0) && (low.is_ascii_graphic() || b" \t\r\n".contains(&low))
                    };
                    units >= LEAST && head.chunks_exact(2).filter(is).count() >= units - units / 10
                };
                if plain(1) { of(false) } else { plain(0).then(|| of(true)).flatten() }
            }
        }
    }

    /// The next bytes; `then` gets the text in them.
    pub(super) fn push(&mut self, piece: &[u8], mut then: impl FnMut(&[u8])) {
        for byte in piece {
            let Some(first) = self.half.take() else {
                self.half = Some(*byte);
                continue;
            };
            let pair = [first, *byte];
            self.unit(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) });
            if self.out.len() >= BLOCK {
                then(self.out.as_bytes());
                self.out.clear();
            }
        }
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self, then: impl FnOnce(&[u8])) {
        then(self.out.as_bytes());
        self.out.clear();
    }

    fn unit(&mut self, unit: u16) {
        let units = self.high.take().into_iter().chain([unit]);
        if (0xd800..0xdc00).contains(&unit) {
            self.high = Some(unit);
            return;
        }
        self.out.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
}
