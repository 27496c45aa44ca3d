//! Who means harm, and how. Invariant: an actor can only do what a real peer could do from outside: send bytes,
//! answer wrongly, or not at all. It never touches another node's memory, disk or keys.

use crate::{dice::Dice, scenario::ActorSettings};
use softservice_protocol::{
    bitmap::Bitmap,
    codec,
    feed::{Head, Position},
    id::{Digest, PublisherId, ReleaseId},
    message::Message,
};

/// What a node is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// The one that publishes; honest.
    Publisher,
    /// Follows, fetches, provisions, serves; honest.
    Follower,
    /// A follower whose content streams carry wrong bytes.
    Corrupter,
    /// Sends garbage and floods; follows no protocol.
    Flooder,
    /// Accepts connections and never answers.
    Silent,
    /// A follower that claims to have everything.
    Boaster,
}

impl Nature {
    /// Whether it means well.
    pub fn is_honest(self) -> bool {
        matches!(self, Self::Publisher | Self::Follower)
    }
    /// Whether it runs the real core behind its mask.
    pub fn has_core(self) -> bool {
        !matches!(self, Self::Flooder | Self::Silent)
    }
}

/// Deals natures to nodes: the first is the publisher.
pub fn deal(settings: &ActorSettings, nodes: usize, seed: u64) -> Vec<Nature> {
    let others = nodes.saturating_sub(1);
    let count = |share: f64| (others as f64 * share).round() as usize;
    let mut natures = Vec::with_capacity(others);
    natures.extend(std::iter::repeat_n(Nature::Corrupter, count(settings.corrupters)));
    natures.extend(std::iter::repeat_n(Nature::Flooder, count(settings.flooders)));
    natures.extend(std::iter::repeat_n(Nature::Silent, count(settings.silent)));
    natures.extend(std::iter::repeat_n(Nature::Boaster, count(settings.boasters)));
    natures.resize(others, Nature::Follower);
    Dice::new(seed, "actors").shuffle(&mut natures);
    natures.insert(0, Nature::Publisher);
    natures
}

/// What a boaster makes of its core's messages: every bitmap is full.
pub fn boast(bytes: Vec<u8>, chunks_of: impl Fn(ReleaseId) -> Option<usize>) -> Vec<u8> {
    let Ok(Message::Has { release, .. }) = codec::decode::<Message>(&bytes) else {
        return bytes;
    };
    let Some(chunks) = chunks_of(release) else {
        return bytes;
    };
    codec::encode(&Message::Has { release, chunks: Some(Bitmap::full(chunks)) }).unwrap_or(bytes)
}

/// One act of a flooder.
#[derive(Debug)]
pub enum Flood {
    /// A control message that no honest program could have sent.
    Garbage(Vec<u8>),
    /// Well-formed control messages, many of them.
    Questions(Vec<Vec<u8>>),
    /// Gossip that nobody signed.
    Gossip(Vec<u8>),
}

/// Draws what a flooder does next; `genuine` is gossip that it overheard.
pub fn flood(dice: &mut Dice, publisher: PublisherId, release: ReleaseId, genuine: Option<&[u8]>) -> Flood {
    match dice.below(10) {
        // Rarely outright garbage: a flooder that is cut off at once would prove little about floods.
        0 => {
            let len = dice.between(1, 2000) as usize;
            let mut bytes = dice.bytes(len);
            bytes[0] = 255;
            Flood::Garbage(bytes)
        }
        1..=3 => {
            let have = codec::encode(&Message::Have { release }).unwrap_or_default();
            Flood::Questions(vec![have; dice.between(5, 50) as usize])
        }
        4 => {
            let at = Position { epoch: 1, seq: dice.between(1000, 2000) };
            let head = Head { at, hash: Digest(blake3::hash(&dice.bytes(8)).into()) };
            Flood::Questions(vec![codec::encode(&Message::Heads(vec![(publisher, head)])).unwrap_or_default()])
        }
        5 | 6 => {
            let Some(genuine) = genuine.filter(|g| !g.is_empty()) else {
                return Flood::Gossip(dice.bytes(300));
            };
            let mut bytes = genuine.to_vec();
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            Flood::Gossip(bytes)
        }
        _ => {
            let len = dice.between(1, 4096) as usize;
            Flood::Gossip(dice.bytes(len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natures_are_dealt_by_share_and_the_publisher_is_first() {
        let settings = ActorSettings { corrupters: 0.25, flooders: 0.1, ..ActorSettings::default() };
        let natures = deal(&settings, 41, 9);
        let count = |nature| natures.iter().filter(|n| **n == nature).count();
        assert_eq!(natures.len(), 41);
        assert_eq!(natures[0], Nature::Publisher);
        assert_eq!((count(Nature::Corrupter), count(Nature::Flooder), count(Nature::Follower)), (10, 4, 26));
        assert_eq!(natures, deal(&settings, 41, 9));
    }

    #[test]
    fn a_boaster_only_changes_bitmaps() {
        let release = ReleaseId([1; 32]);
        let has = codec::encode(&Message::Has { release, chunks: None }).expect("small");
        let boasted: Message = codec::decode(&boast(has, |_| Some(9))).expect("well-formed");
        assert_eq!(boasted, Message::Has { release, chunks: Some(Bitmap::full(9)) });
        let have = codec::encode(&Message::Have { release }).expect("small");
        assert_eq!(boast(have.clone(), |_| Some(9)), have);
    }
}
