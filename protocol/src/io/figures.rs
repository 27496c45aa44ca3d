//! What a fetch cost, and what its time went into. Invariant: every millisecond of a fetch is booked to one cause, and so the
//! causes add up to its time; what tasks waited for side by side only says how the time of a transfer is shared out.

use super::Peer;
use crate::message::Coding;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a fetch cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FetchFigures {
    /// Bytes of all stages, as content.
    pub bytes: u64,
    /// Of these, what was not here before.
    pub new_bytes: u64,
    /// Bytes of answers that were of use: fewer than content where it was compressed, or written against what was here.
    pub wire_bytes: u64,
    /// Bytes that came twice.
    pub duplicates: u64,
    /// Bytes of answers that came over the wire in vain: not what their id says, broken off, or unreadable.
    pub wasted: u64,
    /// Useful bytes by peer.
    pub by_peer: BTreeMap<Peer, u64>,
    /// Bytes over the wire by peer, in vain or not.
    pub wire_by_peer: BTreeMap<Peer, u64>,
    /// What came, by how it was written.
    pub carried: Carried,
    /// Milliseconds from the request to the end.
    pub millis: u64,
    /// What they went into.
    pub phases: Phases,
    /// The same milliseconds by what was waited for.
    pub waits: Waits,
}

/// Milliseconds that each phase of a fetch took, all its stages together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Phases {
    /// The store looked what is here and what is missing.
    pub looking: u64,
    /// Peers were asked, and what came was verified and written.
    pub transferring: u64,
    /// The store made whole objects, durably.
    pub assembling: u64,
}

/// Answers by how they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Carried {
    /// As they are.
    pub plain: Volume,
    /// Compressed.
    pub zstd: Volume,
    /// Compressed against what was here.
    pub delta: Volume,
}

/// What answers brought, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Volume {
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
}

impl Carried {
    /// An answer came.
    pub(crate) fn add(&mut self, coding: Coding, bytes: u64, wire_bytes: u64) {
        let volume = match coding {
            Coding::Plain => &mut self.plain,
            Coding::Zstd { .. } => &mut self.zstd,
            Coding::ZstdOverBase { .. } => &mut self.delta,
        };
        volume.bytes = volume.bytes.saturating_add(bytes);
        volume.wire_bytes = volume.wire_bytes.saturating_add(wire_bytes);
    }
    /// All of it.
    pub fn total(&self) -> Volume {
        let all = [self.plain, self.zstd, self.delta];
        let sum = |of: fn(&Volume) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
        Volume { bytes: sum(|v| v.bytes), wire_bytes: sum(|v| v.wire_bytes) }
    }
}

/// What time went into: an amount for each cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Waits {
    /// Documents and manifests: what is here, what is missing, and the round trips that bring them.
    pub looking: u64,
    /// Peers had nothing ready: no answer had begun to come, or nobody could be asked.
    pub peer: u64,
    /// Bytes of answers that had begun came no faster: the network, what encrypts on it, or a limit that the sender has.
    pub link: u64,
    /// The rate that this device's owner allows.
    pub limit: u64,
    /// What came waited to be written, or whole objects to be durable.
    pub disk: u64,
    /// What came waited to be unpacked and hashed.
    pub cpu: u64,
}

/// What took most of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// [`Waits::looking`].
    Looking,
    /// [`Waits::peer`].
    Peer,
    /// [`Waits::link`].
    Link,
    /// [`Waits::limit`].
    Limit,
    /// [`Waits::disk`].
    Disk,
    /// [`Waits::cpu`].
    Cpu,
    /// It took no time.
    None,
}

impl Waits {
    /// What took most; of equals what is named first.
    pub fn limited_by(&self) -> LimitedBy {
        let mut most = (LimitedBy::None, 0);
        for (cause, amount) in [
            (LimitedBy::Looking, self.looking),
            (LimitedBy::Peer, self.peer),
            (LimitedBy::Link, self.link),
            (LimitedBy::Limit, self.limit),
            (LimitedBy::Disk, self.disk),
            (LimitedBy::Cpu, self.cpu),
        ] {
            if amount > most.1 {
                most = (cause, amount);
            }
        }
        most.0
    }
    /// Both.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            looking: self.looking.saturating_add(other.looking),
            peer: self.peer.saturating_add(other.peer),
            link: self.link.saturating_add(other.link),
            limit: self.limit.saturating_add(other.limit),
            disk: self.disk.saturating_add(other.disk),
            cpu: self.cpu.saturating_add(other.cpu),
        }
    }
    fn total(&self) -> u128 {
        [self.looking, self.peer, self.link, self.limit, self.disk, self.cpu].into_iter().map(u128::from).sum()
    }
    /// `time`, shared out as this is. What nobody measured was for peers to use.
    pub(crate) fn share(&self, time: u64) -> Self {
        let total = self.total();
        if total == 0 {
            return Self { peer: time, ..Self::default() };
        }
        let part = |amount: u64| (u128::from(amount) * u128::from(time) / total) as u64;
        let mut parts = Self {
            looking: part(self.looking),
            peer: part(self.peer),
            link: part(self.link),
            limit: part(self.limit),
            disk: part(self.disk),
            cpu: part(self.cpu),
        };
        // What rounding left goes to the largest, so that nothing is lost and the order stays.
        let left = time.saturating_sub(parts.total() as u64);
        match self.limited_by() {
            LimitedBy::Looking => parts.looking += left,
            LimitedBy::Peer | LimitedBy::None => parts.peer += left,
            LimitedBy::Link => parts.link += left,
            LimitedBy::Limit => parts.limit += left,
            LimitedBy::Disk => parts.disk += left,
            LimitedBy::Cpu => parts.cpu += left,
        }
        parts
    }
}

/// What a driver measured of one span request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Bytes of answers to it that came over the wire, whatever became of them.
    pub wire: u64,
    /// How what came is written; none when nothing came to its end.
    pub coding: Option<Coding>,
    /// Microseconds that the peer's stream waited since the request before, by cause.
    pub waits: Waits,
}

impl FetchFigures {
    /// These, after another fetch that prepared this one: what it moved and took is added. Its bytes are not, since they are
    /// part of this one's.
    #[must_use]
    pub fn after(mut self, earlier: &Self) -> Self {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.new_bytes, earlier.new_bytes);
        add(&mut self.wire_bytes, earlier.wire_bytes);
        add(&mut self.duplicates, earlier.duplicates);
        add(&mut self.wasted, earlier.wasted);
        add(&mut self.millis, earlier.millis);
        add(&mut self.phases.looking, earlier.phases.looking);
        add(&mut self.phases.transferring, earlier.phases.transferring);
        add(&mut self.phases.assembling, earlier.phases.assembling);
        earlier.by_peer.iter().for_each(|(peer, n)| add(self.by_peer.entry(*peer).or_default(), *n));
        earlier.wire_by_peer.iter().for_each(|(peer, n)| add(self.wire_by_peer.entry(*peer).or_default(), *n));
        let volumes = [
            (&mut self.carried.plain, earlier.carried.plain),
            (&mut self.carried.zstd, earlier.carried.zstd),
            (&mut self.carried.delta, earlier.carried.delta),
        ];
        for (volume, more) in volumes {
            add(&mut volume.bytes, more.bytes);
            add(&mut volume.wire_bytes, more.wire_bytes);
        }
        self.waits = self.waits.plus(&earlier.waits);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_most_is_named() {
        assert_eq!(Waits::default().limited_by(), LimitedBy::None);
        let waits = Waits { looking: 3, peer: 4, link: 5, limit: 6, disk: 7, cpu: 8 };
        assert_eq!(waits.limited_by(), LimitedBy::Cpu);
        assert_eq!(Waits { disk: 8, ..waits }.limited_by(), LimitedBy::Disk);
        assert_eq!(serde_json::json!(waits.limited_by()), "cpu");
    }

    #[test]
    fn shares_add_up_whatever_they_are() {
        for time in [0, 1, 7, 1000, u64::MAX] {
            for waits in [
                Waits::default(),
                Waits { peer: 1, link: 1, limit: 1, ..Waits::default() },
                Waits { disk: u64::MAX, cpu: u64::MAX, link: u64::MAX, ..Waits::default() },
                Waits { peer: 999_999, disk: 1, ..Waits::default() },
            ] {
                let shared = waits.share(time);
                assert_eq!(shared.total(), u128::from(time), "{waits:?} of {time}");
                assert!(time == 0 || waits.total() == 0 || shared.limited_by() == waits.limited_by());
            }
        }
        assert_eq!(Waits::default().share(5).peer, 5);
    }

    #[test]
    fn a_fetch_that_was_prepared_says_what_both_moved() {
        let peer = Peer([1; 32]);
        let mut first = FetchFigures { bytes: 10, new_bytes: 10, wire_bytes: 9, millis: 5, ..FetchFigures::default() };
        first.by_peer.insert(peer, 10);
        first.carried.add(Coding::Plain, 10, 9);
        let mut second =
            FetchFigures { bytes: 110, new_bytes: 100, wire_bytes: 50, millis: 7, ..FetchFigures::default() };
        second.by_peer.insert(peer, 100);
        second.carried.add(Coding::Zstd { bytes: 50 }, 100, 50);
        let both = second.after(&first);
        assert_eq!((both.bytes, both.new_bytes, both.wire_bytes, both.millis), (110, 110, 59, 12));
        assert_eq!(both.by_peer[&peer], 110);
        assert_eq!(both.carried.total(), Volume { bytes: 110, wire_bytes: 59 });
    }
}
