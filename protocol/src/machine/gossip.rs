//! Talk about feeds: heads on connect, every half minute and when one moves; pulls and their answers; gossip.
//! Invariant: gossip is passed on only when valid, new and durable here, whatever we wish for, but a proof that a publisher
//! spoke twice at once; what gossip loses, heads find again; a peer can make us ask it at most once in a while, and answer it only so often.

use super::{
    claims::{Claims, Worth},
    desk::{Desk, Note},
    feeds::{Feed, Feeds, Judged, Page, Taken, one_back},
    jitter, peers,
    pieces::{Piece, Pieces},
    relay::{Answer, Relay},
};
use crate::{
    codec,
    feed::{Equivocation, Head},
    id::{Digest, Peer, PublisherId},
    io::{Step, Verdict},
    limits,
    message::{Bytes, Message},
    sign::Envelope,
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// Between two exchanges of heads with everybody.
const ROUND: Span = Span::seconds(30);
/// Between two looks for publishers of whom nothing is known yet.
const SEARCH: Span = Span::seconds(5);
/// A pull without an answer may be repeated after this.
const ANSWER: Span = Span::seconds(10);
/// Pulls that one peer may have answered within [`WINDOW`]: a new device with many feeds, several pages each.
const PULLS: u32 = 256;
/// Messages with heads that one peer may send within [`WINDOW`].
const HEADS: u32 = 128;
/// Gossip that one neighbour may pass on within [`WINDOW`], good or bad: fifty publishers that say all they may at once.
const PASSED_ON: u32 = 512;
/// See [`PULLS`].
const WINDOW: Span = Span::seconds(10);
/// Peers that are asked for a new publisher at once.
const ASKED: usize = 8;

/// What is under way with one peer.
#[derive(Debug, Default)]
struct Talk {
    /// What it said its heads are; only of publishers that we know.
    heads: BTreeMap<PublisherId, Head>,
    /// What we told it last.
    told: BTreeMap<PublisherId, Head>,
    /// Pulls that wait for an answer: since when, and the place asked from.
    asked: BTreeMap<PublisherId, (Time, Head)>,
    /// The root version that it made us doubt: asked once whether it has another document of that version.
    doubted: BTreeMap<PublisherId, u64>,
    /// Publishers of whom it holds our proof, or gave us one.
    proven: BTreeSet<PublisherId>,
    window: Time,
    pulls: u32,
    messages: u32,
    gossip: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gossip {
    talks: BTreeMap<Peer, Talk>,
    round: Option<Time>,
    search: Option<Time>,
    relay: Relay,
    pieces: Pieces,
    claims: Claims,
}

/// Somebody honest brings what keys signed that nobody knows for the moment in which a root changes; a flood of it is none.
fn doubted(desk: &mut Desk, peer: Peer) {
    desk.punish(peer, peers::DOUBT, "its pages hold what keys signed that nobody knows".into());
}

impl Talk {
    fn count(&mut self, now: Time) {
        if now.since(self.window) >= WINDOW {
            self.window = now;
            self.pulls = 0;
            self.messages = 0;
            self.gossip = 0;
        }
    }
}

impl Gossip {
    pub(crate) fn connected(&mut self, desk: &mut Desk, feeds: &Feeds, peer: Peer) {
        self.talks.insert(peer, Talk::default());
        self.tell_heads(desk, feeds, peer);
        let unknown: Vec<_> = feeds.known().filter(|(_, f)| !f.is_visible()).map(|(p, _)| p).take(ASKED).collect();
        for publisher in unknown {
            self.ask(desk, feeds, peer, publisher, None);
        }
    }
    pub(crate) fn disconnected(&mut self, peer: Peer) {
        self.talks.remove(&peer);
        self.pieces.disconnected(peer);
        self.claims.disconnected(peer);
    }

    /// Asks some connected peers for a publisher that was just followed.
    pub(crate) fn ask_around(&mut self, desk: &mut Desk, feeds: &Feeds, publisher: PublisherId) {
        let mut peers: Vec<Peer> = self.talks.keys().copied().collect();
        desk.shuffle(&mut peers);
        for peer in peers.into_iter().take(ASKED) {
            self.ask(desk, feeds, peer, publisher, None);
        }
    }

    /// Asks these peers, best first, what is newest, whatever they said before; answers who owes an answer now.
    pub(crate) fn ask_these(
        &mut self,
        desk: &mut Desk,
        feeds: &Feeds,
        publisher: PublisherId,
        peers: &[Peer],
    ) -> BTreeSet<Peer> {
        let talking: Vec<Peer> = peers.iter().copied().filter(|p| self.talks.contains_key(p)).take(ASKED).collect();
        for &peer in &talking {
            // An answer that is on its way may be older than the question.
            if let Some(talk) = self.talks.get_mut(&peer) {
                talk.asked.remove(&publisher);
            }
            self.ask(desk, feeds, peer, publisher, None);
        }
        let owes = |p: &Peer| self.talks.get(p).is_some_and(|t| t.asked.contains_key(&publisher));
        talking.into_iter().filter(owes).collect()
    }

    /// Whether this peer said that it follows this publisher.
    pub(crate) fn follows(&self, peer: Peer, publisher: PublisherId) -> bool {
        self.talks.get(&peer).is_some_and(|talk| talk.heads.contains_key(&publisher))
    }

    /// Tells peers that lag behind of a head that moved.
    pub(crate) fn announce(&mut self, desk: &mut Desk, feeds: &Feeds, publisher: PublisherId) {
        let Some(feed) = feeds.get(publisher) else { return };
        let head = feed.visible_head();
        for (&peer, talk) in &mut self.talks {
            let behind = talk.heads.get(&publisher).is_none_or(|h| feed.rank(*h) < feed.rank(head));
            if behind && talk.told.insert(publisher, head) != Some(head) {
                desk.send(peer, &Message::Heads(vec![(publisher, head)]));
            }
        }
    }

    pub(crate) fn heads(&mut self, desk: &mut Desk, feeds: &Feeds, peer: Peer, heads: Vec<(PublisherId, Head)>) {
        let Some(talk) = self.talks.get_mut(&peer) else { return };
        talk.count(desk.now);
        talk.messages += 1;
        if heads.len() > limits::HEADS || talk.messages > HEADS {
            desk.refused(Step::Limits);
            return desk.punish(peer, peers::NOISE, "too many heads".into());
        }
        for (publisher, theirs) in heads {
            let Some(feed) = feeds.get(publisher) else { continue };
            desk.note(Note::Interested { peer, publisher });
            let ours = feed.newest();
            let talk = self.talks.entry(peer).or_default();
            talk.heads.insert(publisher, theirs);
            // Gossip told it once, to whoever was there and only if it is small. Whoever is as far as we, or ahead on the
            // other branch, has no reason to ask.
            if feed.is_frozen()
                && talk.proven.insert(publisher)
                && let Some(proof) = feed.proof_page(publisher)
            {
                desk.send(peer, &proof);
            }
            if feed.own && feed.is_ahead(theirs) {
                self.claims.made(desk.now, feed, (peer, publisher), theirs);
            }
            let shown = feed.visible_head();
            if feed.rank(shown) > feed.rank(theirs) && talk.told.insert(publisher, shown) != Some(shown) {
                desk.send(peer, &Message::Heads(vec![(publisher, shown)]));
            }
            // What the root gave up is nothing to learn from, but our question shows whoever holds it that there is a root.
            let given_up = feed.rank(theirs).is_none();
            let rival = theirs.at == ours.at && theirs.hash != ours.hash && ours.at.seq > 0 && !feed.is_frozen();
            if !given_up && (rival || (feed.wants_signature() && theirs == ours)) {
                // One of us follows another branch, and its entry at this place is the proof; or theirs is better signed.
                self.ask(desk, feeds, peer, publisher, Some(one_back(ours)));
            } else if given_up
                || feed.is_ahead(theirs)
                || !feed.is_visible()
                || feed.wants_fresh(desk.moment())
                || feed.wants_root()
            {
                self.ask(desk, feeds, peer, publisher, None);
            }
        }
    }

    /// Asks a peer for what is missing of a feed, unless it was just asked.
    fn ask(&mut self, desk: &mut Desk, feeds: &Feeds, peer: Peer, publisher: PublisherId, from: Option<Head>) {
        let root = feeds.get(publisher).map_or(0, |feed| feed.root_to_ask_from(peer));
        self.ask_after(desk, feeds, peer, publisher, from, root);
    }
    /// The same as if we had root documents up to `root` only; whether it was asked.
    fn ask_after(
        &mut self,
        desk: &mut Desk,
        feeds: &Feeds,
        peer: Peer,
        publisher: PublisherId,
        from: Option<Head>,
        root: u64,
    ) -> bool {
        let (Some(feed), Some(talk)) = (feeds.get(publisher), self.talks.get_mut(&peer)) else { return false };
        // Whose share is spent is not asked for: the answer would wait, too.
        let wait = feed.purse.is_empty(desk.now);
        if wait || talk.asked.get(&publisher).is_some_and(|(at, _)| desk.now.since(*at) < ANSWER) {
            return false;
        }
        let head = from.unwrap_or_else(|| feed.ask_from());
        talk.asked.insert(publisher, (desk.now, head));
        desk.send(peer, &Message::Pull { publisher, root, head });
        true
    }
    /// What it brings was not signed under our root documents: it may know a newer one, or another one of the version that we
    /// have, which an answer to our version number never shows. So it is asked as if ours was not here: if it has the same, that
    /// costs one document; another one is the proof. Once for each peer and version, or a liar would have us ask for ever.
    /// Digests in heads were refused: they would be another format for what is found at the price of a document.
    fn doubt(
        &mut self,
        desk: &mut Desk,
        feeds: &Feeds,
        peer: Peer,
        publisher: PublisherId,
        from: Option<Head>,
    ) -> bool {
        let version = feeds.get(publisher).and_then(Feed::newest_root).map_or(0, |r| r.root.version);
        // The first document is the publisher's name: there is no other.
        let doubted = self.talks.get(&peer).and_then(|t| t.doubted.get(&publisher));
        if version < 2 || doubted == Some(&version) {
            return false;
        }
        let asked = self.ask_after(desk, feeds, peer, publisher, from, version - 1);
        if let Some(talk) = self.talks.get_mut(&peer).filter(|_| asked) {
            talk.doubted.insert(publisher, version);
        }
        asked
    }

    fn may_pull(&mut self, desk: &mut Desk, peer: Peer) -> bool {
        let Some(talk) = self.talks.get_mut(&peer) else { return false };
        talk.count(desk.now);
        talk.pulls += 1;
        let may = talk.pulls <= PULLS;
        if !may {
            desk.refused(Step::Limits);
            desk.punish(peer, peers::NOISE, "it pulls too often".into());
        }
        may
    }

    pub(crate) fn pulled(
        &mut self,
        desk: &mut Desk,
        feeds: &Feeds,
        peer: Peer,
        publisher: PublisherId,
        root: u64,
        head: Head,
    ) {
        if !self.may_pull(desk, peer) {
            return;
        }
        let answer = match feeds.get(publisher) {
            Some(feed) => {
                desk.note(Note::Interested { peer, publisher });
                feed.page(publisher, root, head)
            }
            // An empty answer spares the asker its wait.
            None => Message::Feed {
                publisher,
                roots: Vec::new(),
                snapshot: None,
                entries: Vec::new(),
                fresh: None,
                more: false,
            },
        };
        desk.send(peer, &answer);
        if feeds.get(publisher).and_then(Feed::newest_root).is_some_and(|r| r.root.version < root) {
            self.ask(desk, feeds, peer, publisher, None);
        }
    }

    /// Takes an answer to a pull; says whether it was the last one, so that nothing more is owed.
    pub(crate) fn fed(
        &mut self,
        desk: &mut Desk,
        feeds: &mut Feeds,
        peer: Peer,
        publisher: PublisherId,
        page: Page,
    ) -> bool {
        let Some(talk) = self.talks.get_mut(&peer) else { return false };
        // Not asked for, or a second copy of an answer: networks repeat things, so nobody is blamed.
        let Some((_, asked_from)) = talk.asked.remove(&publisher) else {
            if let Some(proof) = page.proof(publisher) {
                self.proven(desk, feeds, peer, proof);
            }
            return false;
        };
        self.take(desk, feeds, peer, publisher, page, asked_from)
    }

    fn take(
        &mut self,
        desk: &mut Desk,
        feeds: &mut Feeds,
        peer: Peer,
        publisher: PublisherId,
        page: Page,
        asked_from: Head,
    ) -> bool {
        let (more, mut brought) = (page.more, false);
        match feeds.take_page(desk, peer, publisher, page) {
            Taken::New => {
                desk.note(Note::Served { peer });
                brought = true;
                self.claims.shown((peer, publisher));
                if more {
                    self.ask(desk, feeds, peer, publisher, None);
                    return false;
                }
                if let Some(feed) = feeds.get(publisher).filter(|f| f.wants_signature()) {
                    // A new root came, and the head has only signatures of keys that it no longer names.
                    self.ask(desk, feeds, peer, publisher, Some(one_back(feed.newest())));
                }
            }
            Taken::Nothing => {}
            Taken::Begin(beginning) => {
                let snapshot = beginning.snapshot;
                // Signed, and ahead: only its catalogue takes its time.
                self.claims.shown((peer, publisher));
                if let Some(from) = self.pieces.begin(desk.now, peer, publisher, beginning) {
                    desk.send(peer, &Message::PullSnapshot { publisher, snapshot, from });
                }
                // Whoever is not asked for it has said all it could.
                return !self.pieces.is_coming(peer, publisher);
            }
            Taken::Ask { from, doubt: true } if self.doubt(desk, feeds, peer, publisher, Some(from)) => return false,
            Taken::Refused { doubt: true, .. } if self.doubt(desk, feeds, peer, publisher, None) => return false,
            Taken::Ask { from, doubt } => {
                if doubt {
                    doubted(desk, peer);
                }
                // The same question would have the same answer.
                if from != asked_from {
                    self.ask_later(desk, feeds, peer, publisher, from);
                    return false;
                }
            }
            // What it announced stays announced: whoever signs as this publisher waits for it.
            Taken::Later => {
                tracing::warn!(%peer, %publisher, "the publisher has had so much kept lately that the rest waits");
                return true;
            }
            Taken::Refused { fault, forged, doubt } => {
                tracing::warn!(%peer, %publisher, %fault, "a feed page is refused");
                if forged {
                    desk.punish(peer, peers::FORGED, fault.to_string());
                } else if doubt {
                    doubted(desk, peer);
                }
            }
        }
        // A head that it announced and could not show does not hold up our own publishing any longer.
        if let (Some(talk), Some(feed)) = (self.talks.get_mut(&peer), feeds.get(publisher))
            && let Some(claimed) = talk.heads.get_mut(&publisher)
            && feed.is_ahead(*claimed)
        {
            *claimed = feed.newest();
            if feed.own && !brought && self.claims.broken((peer, publisher)) {
                desk.punish(peer, peers::NOISE, "it announced a head and did not show it".into());
            }
        }
        true
    }

    /// Answers with a piece of a catalogue that is too long for a page.
    pub(crate) fn pulled_snapshot(
        &mut self,
        desk: &mut Desk,
        feeds: &Feeds,
        peer: Peer,
        (publisher, snapshot, from): (PublisherId, Digest, u32),
    ) {
        if self.may_pull(desk, peer) {
            let answer = self.pieces.cut(desk.now, feeds.get(publisher), publisher, snapshot, from);
            desk.send(peer, &answer);
        }
    }

    /// Takes a piece of one; says whether nothing more is owed.
    pub(crate) fn brought(
        &mut self,
        desk: &mut Desk,
        feeds: &mut Feeds,
        peer: Peer,
        (publisher, snapshot): (PublisherId, Digest),
        place: (u32, u32),
        piece: &[u8],
    ) -> bool {
        match self.pieces.take(desk.now, peer, publisher, snapshot, place, piece) {
            Piece::Stray => false,
            Piece::Next(from) => {
                desk.send(peer, &Message::PullSnapshot { publisher, snapshot, from });
                false
            }
            Piece::Whole(entry, snapshot) => {
                let (snapshot, entries) = (Some(Bytes(snapshot)), vec![Bytes(entry)]);
                // With what came after it meanwhile.
                let page = Page { roots: Vec::new(), snapshot, entries, fresh: None, more: true };
                self.take(desk, feeds, peer, publisher, page, Head::START)
            }
            // The next round of heads asks anew: at once would be a circle, with whoever says so each time.
            Piece::Gone => true,
            Piece::Lie(why) => {
                desk.punish(peer, peers::FORGED, why.into());
                true
            }
        }
    }

    /// Takes a proof that nobody asked for.
    fn proven(&mut self, desk: &mut Desk, feeds: &mut Feeds, peer: Peer, proof: Equivocation) {
        let Some(talk) = self.talks.get_mut(&peer) else { return };
        talk.count(desk.now);
        talk.gossip += 1;
        if talk.gossip > PASSED_ON {
            desk.refused(Step::Limits);
            return desk.punish(peer, peers::NOISE, "too many proofs".into());
        }
        let publisher = proof.publisher;
        if matches!(feeds.judge_proof(desk, proof), Judged::New) {
            talk.proven.insert(publisher);
            desk.note(Note::Served { peer });
        }
    }

    /// Asks once more from another place; the pause of a repeated pull keeps a liar from leading us in circles.
    fn ask_later(&mut self, desk: &mut Desk, feeds: &Feeds, peer: Peer, publisher: PublisherId, from: Head) {
        self.ask(desk, feeds, peer, publisher, Some(from));
    }

    pub(crate) fn gossiped(&mut self, desk: &mut Desk, feeds: &mut Feeds, peer: Peer, gossip: u64, bytes: &[u8]) {
        let answer = self.judge(desk, feeds, peer, bytes);
        self.relay.answer(desk, feeds, (peer, gossip), answer);
    }
    /// All that was verified of a publisher is durable, or some of it could not be kept.
    pub(crate) fn settled(&mut self, desk: &mut Desk, publisher: PublisherId, kept: bool) {
        self.relay.settled(desk, publisher, kept);
    }

    fn judge(&mut self, desk: &mut Desk, feeds: &mut Feeds, peer: Peer, bytes: &[u8]) -> Answer {
        if bytes.len() > limits::GOSSIP_BYTES {
            desk.refused(Step::Length);
            desk.punish(peer, peers::GARBAGE, format!("gossip of {} bytes", bytes.len()));
            return Verdict::Reject.into();
        }
        if let Some(talk) = self.talks.get_mut(&peer) {
            talk.count(desk.now);
            talk.gossip += 1;
            if talk.gossip > PASSED_ON {
                // Not even looked at: looking is what a flood is to make us do.
                desk.refused(Step::Limits);
                desk.punish(peer, peers::NOISE, "too much gossip".into());
                return Verdict::Ignore.into();
            }
        }
        let (publisher, judged, digest, is_proof) = match codec::decode::<Envelope>(bytes) {
            Ok(envelope) => (envelope.publisher, feeds.judge(desk, &envelope, bytes), envelope.digest(), false),
            Err(error) => match codec::decode::<Equivocation>(bytes) {
                Ok(proof) => (proof.publisher, feeds.judge_proof(desk, proof), Digest::of(bytes), true),
                Err(_) => {
                    desk.refused(error.step());
                    desk.punish(peer, peers::GARBAGE, error.to_string());
                    return Verdict::Reject.into();
                }
            },
        };
        if matches!(judged, Judged::New | Judged::Padded) && feeds.get(publisher).is_some_and(Feed::wants_root) {
            self.ask(desk, feeds, peer, publisher, None);
        }
        let verdict = match judged {
            Judged::New if is_proof => Verdict::Accept,
            Judged::New if self.relay.spend(desk.now, publisher) => return Answer::Kept(publisher),
            // A pull was faster than gossip: others still wait for it. Once only, or old news could circle for ever.
            Judged::Known { is_head: true }
                if self.relay.pass_once(digest) && self.relay.spend(desk.now, publisher) =>
            {
                return Answer::Kept(publisher);
            }
            Judged::New | Judged::Known { .. } | Judged::Useless => Verdict::Ignore,
            Judged::Padded => {
                // Nobody here passes that on; who does so all the time makes many messages of one.
                desk.punish(peer, peers::DOUBT, "it passes on signatures that are worth nothing".into());
                Verdict::Ignore
            }
            Judged::Ask(from) => {
                self.ask(desk, feeds, peer, publisher, Some(from));
                Verdict::Ignore
            }
            Judged::UnknownKeys(from) => {
                // Somebody honest does so for the moment in which a root changes; a flood of it is none.
                desk.punish(peer, peers::DOUBT, "it passes on what keys signed that nobody knows".into());
                if !self.doubt(desk, feeds, peer, publisher, Some(from)) {
                    self.ask(desk, feeds, peer, publisher, Some(from));
                }
                Verdict::Ignore
            }
            Judged::Forged(fault) => {
                desk.punish(peer, peers::FORGED, fault.to_string());
                Verdict::Reject
            }
        };
        verdict.into()
    }

    /// Whether a connected peer said that it has a newer head of this feed than we, and may show it yet: then we must not
    /// sign. All who say so are heard: who says most may be a liar.
    pub(crate) fn ahead(&mut self, desk: &mut Desk, feeds: &Feeds, publisher: PublisherId) -> Option<Head> {
        let feed = feeds.get(publisher)?;
        let claim = |(peer, talk): (&Peer, &Talk)| Some((*peer, *talk.heads.get(&publisher)?));
        let claims: Vec<_> = self.talks.iter().filter_map(claim).filter(|(_, head)| feed.is_ahead(*head)).collect();
        let mut most = None;
        for (peer, head) in claims {
            match self.claims.worth(desk.now, feed, (peer, publisher), head) {
                Worth::Stands => most = most.max(Some(head)),
                Worth::Over => {
                    self.claims.broken((peer, publisher));
                    desk.punish(peer, peers::NOISE, "it announced a head and did not show it".into());
                }
                Worth::Doubted => continue,
            }
            // Who is slow may show it all the same.
            self.ask(desk, feeds, peer, publisher, None);
        }
        most
    }

    fn tell_heads(&mut self, desk: &mut Desk, feeds: &Feeds, peer: Peer) {
        let Some(talk) = self.talks.get_mut(&peer) else { return };
        let heads: Vec<_> = feeds.known().map(|(p, f)| (p, f.visible_head())).take(limits::HEADS).collect();
        talk.told = heads.iter().copied().collect();
        if !heads.is_empty() {
            desk.send(peer, &Message::Heads(heads));
        }
    }

    pub(crate) fn wake(&self, feeds: &Feeds) -> Option<Time> {
        let talking = !self.talks.is_empty() && feeds.known().next().is_some();
        let round = self.round.filter(|_| talking);
        let search = self.search.filter(|_| talking);
        [round, search].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, desk: &mut Desk, feeds: &Feeds) {
        let now = desk.now;
        if self.round.is_none_or(|at| at <= now) {
            let first = self.round.is_none();
            self.pieces.rest(now);
            self.round = Some(now + jitter(desk, ROUND));
            let peers: Vec<Peer> = self.talks.keys().copied().collect();
            for peer in peers.into_iter().filter(|_| !first) {
                self.tell_heads(desk, feeds, peer);
            }
        }
        if self.search.is_none_or(|at| at <= now) {
            let lost: Vec<_> = feeds.known().filter(|(_, f)| !f.is_visible() && !f.forked).map(|(p, _)| p).collect();
            self.search = Some(now + jitter(desk, if lost.is_empty() { ROUND } else { SEARCH }));
            for publisher in lost.into_iter().take(ASKED) {
                self.ask_around(desk, feeds, publisher);
            }
        }
    }
}
