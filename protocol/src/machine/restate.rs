//! Own feeds: "this head is current" is said anew long before it runs out, whether or not anything is released.
//! Invariant: a statement is about the newest durable entry and dated after the one before; nothing is stated of a feed that is
//! frozen, has lost its end or may have done so, as that would vouch for a head that was left behind. Dates are compared with
//! what the clock shows, pauses with what passes: a clock of 1970 makes nobody sign without pause.

use super::{
    desk::Desk,
    feeds::{Feed, Feeds, Judged},
};
use crate::{
    codec,
    feed::{Fresh, Moment, VALID_FOR},
    id::{FeedId, PublisherId},
    io::{Event, Output, Token},
    limits,
    sign::{Envelope, Kind, Signature},
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// Pause before a statement is tried again that our keys did not sign, or that was not kept.
const AGAIN: Span = Span::seconds(10 * 60);

/// See the module.
#[derive(Debug, Default)]
pub struct Restate {
    /// Not before this, as [`Desk::now`] counts.
    tried: BTreeMap<PublisherId, Time>,
    signing: BTreeMap<Token, (PublisherId, Vec<u8>)>,
    /// Those of whom the owner was told that their keys do not suffice, while nobody else states them either.
    unable: BTreeSet<PublisherId>,
}

impl Restate {
    /// Signs a new statement for an own feed.
    pub(crate) fn state(&mut self, desk: &mut Desk, feeds: &Feeds, publisher: PublisherId) {
        let now = desk.moment();
        let Some(feed) = feeds.get(publisher).filter(|f| may_state(f, now)) else { return };
        let Some(root) = &feed.root else { return };
        // Twice in one millisecond would look like a repetition.
        let last = feed.statement(now).map_or(Time(0), |f| Time(f.issued_at.0.saturating_add(1)));
        let issued_at = now.time().max(last);
        let fresh = Fresh { head: feed.state.head, root_version: root.root.version, issued_at, valid_for: VALID_FOR };
        self.tried.insert(publisher, desk.now + AGAIN);
        match codec::encode(&fresh) {
            Ok(payload) => {
                let token = desk.sign(Kind::Fresh, publisher, payload.clone(), root.root.roles.fresh.keys.clone());
                self.signing.insert(token, (publisher, payload));
            }
            Err(error) => tracing::error!(%publisher, %error, "a freshness statement does not fit"),
        }
    }

    /// Whether the keys at hand did not suffice for the last statement, and nobody else made one in time.
    pub(crate) fn is_unable(&self, publisher: PublisherId) -> bool {
        self.unable.contains(&publisher)
    }

    /// Whether a statement waits for its signatures.
    pub(crate) fn is_signing(&self, publisher: PublisherId) -> bool {
        self.signing.values().any(|(of, _)| *of == publisher)
    }

    /// Takes signatures of a statement; gives those of anything else back.
    pub(crate) fn signed(
        &mut self,
        desk: &mut Desk,
        feeds: &mut Feeds,
        token: Token,
        mut signatures: Vec<Signature>,
    ) -> Option<Vec<Signature>> {
        let Some((publisher, payload)) = self.signing.remove(&token) else { return Some(signatures) };
        signatures.sort();
        signatures.dedup_by(|a, b| a.key == b.key);
        let envelope = Envelope { kind: Kind::Fresh, publisher, feed: FeedId::main(publisher), payload, signatures };
        let Ok(bytes) = codec::encode(&envelope) else { return None };
        match feeds.judge_own(desk, &envelope, &bytes) {
            Judged::New => {
                self.unable.remove(&publisher);
                if bytes.len() <= limits::GOSSIP_BYTES {
                    desk.out(Output::Gossip { publisher, bytes });
                }
            }
            // An entry came in between, which says the same and more.
            Judged::Known { .. } | Judged::Useless => {}
            Judged::Ask(_) | Judged::Padded | Judged::UnknownKeys(_) | Judged::Forged(_) => {
                // Another home may have the key: until half of the statement's time is over there is nothing to tell.
                if feeds.get(publisher).is_some_and(|f| f.wants_fresh(desk.moment())) && self.unable.insert(publisher) {
                    desk.tell(Event::Unstated { publisher });
                }
            }
        }
        None
    }

    /// When a statement of an own feed is due: a quarter of its time after the one before, so that several may fail.
    fn due(&self, feed: &Feed, now: Moment) -> Time {
        let old = feed.statement(now).filter(|f| f.head == feed.state.head);
        old.map_or(Time(0), |f| f.issued_at + Span(f.valid_for.0 / 4))
    }
    /// When it is tried next, as [`Desk::now`] counts.
    fn next(&self, desk: &Desk, publisher: PublisherId, feed: &Feed) -> Option<Time> {
        let (now, tried) = (desk.moment(), self.tried.get(&publisher).copied().unwrap_or_default());
        let due = self.due(feed, now);
        let due = if due <= now.time() { desk.now } else { desk.when(due) };
        may_state(feed, now).then(|| due.max(tried))
    }

    pub(crate) fn wake(&self, desk: &Desk, feeds: &Feeds) -> Option<Time> {
        feeds.known().filter_map(|(publisher, feed)| self.next(desk, publisher, feed)).min()
    }
    pub(crate) fn tick(&mut self, desk: &mut Desk, feeds: &Feeds) {
        let now = desk.moment();
        self.unable.retain(|p| feeds.get(*p).is_some_and(|f| f.wants_fresh(now)));
        let is_due = |(p, f): &(PublisherId, &Feed)| self.next(desk, *p, f).is_some_and(|at| at <= desk.now);
        let due: Vec<PublisherId> = feeds.known().filter(is_due).map(|(p, _)| p).collect();
        for publisher in due {
            self.state(desk, feeds, publisher);
        }
    }
}

/// Whether there is anything to say, and the right to say it. How old the last word is does not matter: whoever comes back
/// after years says that it is back.
fn may_state(feed: &Feed, now: Moment) -> bool {
    let valid = feed.root.as_ref().is_some_and(|r| r.root.expires_at > now.time());
    valid && feed.own && !feed.is_frozen() && feed.lost().is_none() && !feed.is_unsure() && feed.state.head.at.seq > 0
}
