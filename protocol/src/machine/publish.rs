//! Appending to an own feed: reserve the number, sign, check, keep, and only then tell anybody.
//!
//! Invariant: a signature leaves this process only inside an entry that is durable, or inside a request whose payload is.
//! So when the process dies, either the entry is in the log, and its number is taken; or it is not, and nobody outside
//! ever saw what was signed for that number - then signing something else there is no second word. The reservation is
//! kept before signing for what this argument does not cover: a log whose end was lost, or keys that sign elsewhere. It
//! says which digest stands at that number if a peer shows one, and before a reserved number is signed anew no connected
//! peer may know a newer head. The disk's mark stands outside the log: where it is higher than everything in the log,
//! nothing is signed until a peer brings back what was lost.
//!
//! A request asks for signatures elsewhere, when too few of the keys are here. Once it was handed out, its number is
//! spoken for: whatever asks for that number is that very payload, signed anew, or is refused, until the entry came
//! back, another took its place, or the owner says that nobody will sign it any more. A publication that merely found
//! too few keys handed out nothing, and so speaks for nothing.
//! Abandoning a reserved number was refused: feeds have no gaps.
//!
//! One thing is done unasked, as far as the keys here go ([`Publish::tend`]): when a root came under which the head's
//! signatures do not count, the head is signed anew: the same payload, so the same digest, and no second word.
//! Saying a revocation again that a new epoch gave up was refused as a second such thing: two homes with the keys, or one
//! that lost the end of its log, would each say it in words of their own, for one place. Whoever opens the epoch asks
//! what is unsaid ([`super::Core::unsaid`]), and publishes it as anything else.

use super::{
    desk::{Desk, Note},
    feeds::{Feed, Feeds},
};
use crate::{
    codec,
    feed::{Action, Entry, Head, verify_beginning},
    id::{Digest, FeedId, PublicKey, PublisherId},
    io::{Cause, Event, Job, Output, Record, Token},
    limits,
    root::TrustedRoot,
    sign::{Envelope, Kind, Signature},
};
use std::collections::{BTreeMap, VecDeque};

/// Entries that wait behind the one being appended: a build machine that releases many distros at once.
const QUEUE: usize = 64;

/// What is to be appended.
#[derive(Debug)]
pub(crate) enum Work {
    /// Something new; where too few keys are here, a request leaves if the owner wants one.
    New { action: Box<Action>, request: bool },
    /// Something new, appended by a delegated key alone.
    By { key: PublicKey, action: Box<Action> },
    /// An entry that was signed elsewhere, as it came.
    Signed(Vec<u8>),
    /// The head, signed anew by the release role.
    Again { request: bool },
}

#[derive(Debug)]
struct Run {
    /// None: of our own accord.
    job: Option<Job>,
    token: Token,
    draft: Draft,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reserving,
    Signing,
    /// The request that becomes durable before it leaves, with how many signatures of how many it has.
    Requesting(Vec<u8>, usize, usize),
    /// The envelope that becomes durable.
    Keeping(Vec<u8>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Publish {
    running: BTreeMap<PublisherId, Run>,
    queue: BTreeMap<PublisherId, VecDeque<(Option<Job>, Work)>>,
}

/// Why nothing is published. What is no more than words is a fault.
struct Refusal(Cause, String);

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self(Cause::Fault, why)
    }
}
impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self(Cause::Fault, why.into())
    }
}

fn unsafe_now(why: impl Into<String>) -> Refusal {
    Refusal(Cause::Safety, why.into())
}

fn refuse(desk: &mut Desk, job: Option<Job>, why: impl Into<Refusal>) {
    let Refusal(cause, why) = why.into();
    match job {
        Some(job) => desk.tell(Event::Refused { job, cause, why }),
        None => tracing::warn!(why, "an own feed could not be put in order"),
    }
}

impl Publish {
    /// Begins or queues a publication. `ahead` is a newer head that a connected peer announced.
    pub(crate) fn begin(
        &mut self,
        desk: &mut Desk,
        feeds: &mut Feeds,
        job: Job,
        publisher: PublisherId,
        work: Work,
        ahead: Option<Head>,
    ) {
        if let Some(head) = ahead {
            let why = format!(
                "a peer has entry {} of this feed, newer than ours: publishing now would fork it; it is being asked for, try again",
                head.at.seq
            );
            return refuse(desk, Some(job), unsafe_now(why));
        }
        let queue = self.queue.entry(publisher).or_default();
        if queue.len() >= QUEUE {
            return refuse(desk, Some(job), format!("{QUEUE} entries of this publisher already wait"));
        }
        queue.push_back((Some(job), work));
        self.next(desk, feeds, publisher);
    }

    /// Puts an own feed in order, unless something is under way: a head that only old keys signed.
    pub(crate) fn tend(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId) {
        let Some(feed) = feeds.get(publisher).filter(|f| f.own && !f.is_frozen()) else { return };
        if self.running.contains_key(&publisher) {
            return;
        }
        // What a build machine appended nobody vouches for unasked, when its key may be the reason for the new root; nor for a
        // date that is yet to come: then the next entry is the next word.
        if !feed.wants_signature() || is_delegated(feed) || is_dated_ahead(desk, feed) {
            return;
        }
        self.queue.entry(publisher).or_default().push_back((None, Work::Again { request: false }));
        self.next(desk, feeds, publisher);
    }

    /// Begins what waits, if nothing runs.
    fn next(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId) {
        while !self.running.contains_key(&publisher) {
            let Some((job, work)) = self.queue.get_mut(&publisher).and_then(VecDeque::pop_front) else {
                self.queue.remove(&publisher);
                return;
            };
            match prepare(desk, feeds, publisher, work) {
                Ok(Prepared::Draft(draft)) => {
                    let token = desk.keep(Record::Reserved { publisher, head: draft.head });
                    self.running.insert(publisher, Run { job, token, draft, stage: Stage::Reserving });
                }
                // Its number was taken long ago.
                Ok(Prepared::Again(draft)) => {
                    let Draft { payload, keys, envelope, .. } = &draft;
                    let (envelope, payload, keys) = (envelope.clone(), payload.clone(), keys.clone());
                    let token =
                        if envelope.is_some() { Token(0) } else { desk.sign(Kind::Entry, publisher, payload, keys) };
                    self.running.insert(publisher, Run { job, token, draft, stage: Stage::Signing });
                    if let Some(envelope) = envelope {
                        return self.keep(desk, feeds, publisher, &envelope);
                    }
                }
                Ok(Prepared::Known(head)) => {
                    if let Some(job) = job {
                        desk.tell(Event::Published { job, head });
                    }
                }
                Err(why) => refuse(desk, job, why),
            }
        }
    }

    fn find(&mut self, token: Token) -> Option<(PublisherId, &mut Run)> {
        self.running.iter_mut().find(|(_, run)| run.token == token).map(|(p, run)| (*p, run))
    }

    pub(crate) fn durable(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token) {
        let Some((publisher, run)) = self.find(token) else { return };
        let job = run.job;
        match &run.stage {
            Stage::Reserving => {
                let draft = &run.draft;
                feeds.reserve(publisher, draft.head);
                let Some(envelope) = draft.envelope.clone() else {
                    run.token = desk.sign(Kind::Entry, publisher, draft.payload.clone(), draft.keys.clone());
                    run.stage = Stage::Signing;
                    return;
                };
                self.keep(desk, feeds, publisher, &envelope);
            }
            Stage::Signing => {}
            Stage::Requesting(request, have, threshold) => {
                let (request, have, threshold) = (Some(request.clone()), *have, *threshold);
                if !run.draft.again {
                    feeds.request(publisher, run.draft.head, run.draft.payload.clone());
                }
                if let Some(job) = job {
                    desk.tell(Event::Unsigned { job, publisher, request, have, threshold });
                }
                self.end(desk, feeds, publisher);
            }
            Stage::Keeping(_) if !feeds.get(publisher).is_some_and(|f| f.counts(run.draft.head, run.draft.again)) => {
                let seq = run.draft.head.at.seq;
                let why =
                    "what comes before it could not be written down; make room on the disk and start the node again";
                refuse(desk, job, format!("entry {seq} is written down, but {why}"));
                self.end(desk, feeds, publisher);
            }
            Stage::Keeping(envelope) => {
                // A larger entry is found by its head.
                if envelope.len() <= limits::GOSSIP_BYTES {
                    desk.out(Output::Gossip { publisher, bytes: envelope.clone() });
                }
                if let Some(job) = job {
                    desk.tell(Event::Published { job, head: run.draft.head });
                }
                desk.note(Note::Published { publisher });
                self.end(desk, feeds, publisher);
            }
        }
    }

    /// What ran is over: begins what waits behind it.
    fn end(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId) {
        let ended = self.running.remove(&publisher);
        self.next(desk, feeds, publisher);
        if ended.is_some_and(|run| run.job.is_some()) {
            // A root may have come meanwhile.
            desk.note(Note::Tend { publisher });
        }
    }

    pub(crate) fn not_kept(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token, why: &str) {
        let Some((publisher, run)) = self.find(token) else { return };
        refuse(desk, run.job, format!("it could not be written down: {why}"));
        self.end(desk, feeds, publisher);
    }

    pub(crate) fn signed(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token, mut signatures: Vec<Signature>) {
        let Some((publisher, run)) = self.find(token).filter(|(_, run)| matches!(run.stage, Stage::Signing)) else {
            return;
        };
        signatures.truncate(limits::SIGNATURES);
        signatures.sort();
        signatures.dedup_by(|a, b| a.key == b.key);
        let payload = run.draft.payload.clone();
        let envelope = Envelope { kind: Kind::Entry, publisher, feed: FeedId::main(publisher), payload, signatures };
        let root = feeds.get(publisher).and_then(Feed::newest_root);
        let lacks = root.and_then(|root| lacking(root, &envelope, &run.draft));
        let Some((have, threshold)) = lacks else { return self.keep(desk, feeds, publisher, &envelope) };
        let job = run.job;
        if !run.draft.request {
            match job {
                Some(job) => desk.tell(Event::Unsigned { job, publisher, request: None, have, threshold }),
                None => refuse(
                    desk,
                    None,
                    format!("{have} of {threshold} keys are here; it waits for whoever has the others"),
                ),
            }
            return self.end(desk, feeds, publisher);
        }
        match codec::encode(&envelope) {
            Ok(request) if run.draft.again => {
                // The entry stands, signed by older keys: nothing new is spoken for.
                if let Some(job) = job {
                    desk.tell(Event::Unsigned { job, publisher, request: Some(request), have, threshold });
                }
                self.end(desk, feeds, publisher);
            }
            Ok(request) => {
                run.token = desk.keep(Record::Requested { publisher, payload: envelope.payload });
                run.stage = Stage::Requesting(request, have, threshold);
            }
            Err(error) => {
                refuse(desk, job, error.to_string());
                self.end(desk, feeds, publisher);
            }
        }
    }

    /// Verifies what is signed and has it kept.
    fn keep(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId, envelope: &Envelope) {
        let Some(run) = self.running.get_mut(&publisher) else { return };
        match feeds.append(desk, publisher, envelope) {
            Ok((token, bytes)) => {
                run.token = token;
                run.stage = Stage::Keeping(bytes);
            }
            Err(why) => {
                refuse(desk, run.job, why);
                self.end(desk, feeds, publisher);
            }
        }
    }
}

/// How many signatures the role has that lacks fewest, and how many it needs; none when a role has them all. Whether
/// they are good is judged when the entry is verified.
fn lacking(root: &TrustedRoot, envelope: &Envelope, draft: &Draft) -> Option<(usize, usize)> {
    if let (Some(key), false) = (draft.by, draft.again) {
        return (!envelope.signatures.iter().any(|s| s.key == key)).then_some((0, 1));
    }
    let of = |role: &crate::root::Role| {
        let have = envelope.signatures.iter().filter(|s| role.keys.contains(&s.key)).count();
        (have, usize::from(role.threshold))
    };
    let roles = &root.root.roles;
    let release = of(&roles.release);
    let fewest = match draft.action {
        _ if draft.again => release,
        Action::Release(_) => release,
        Action::Revoke { .. } => [of(&roles.revoke), release].into_iter().min_by_key(|(h, t)| t.saturating_sub(*h))?,
    };
    (fewest.0 < fewest.1).then_some(fewest)
}

/// An entry of an own feed that is on its way.
#[derive(Debug)]
struct Draft {
    /// The head that it will be.
    head: Head,
    action: Action,
    /// The delegated key that appends it.
    by: Option<PublicKey>,
    /// What is signed.
    payload: Vec<u8>,
    /// Who may, most wanted first.
    keys: Vec<PublicKey>,
    /// Too few keys are no refusal: what is here is handed out to be signed elsewhere.
    request: bool,
    /// Signed already.
    envelope: Option<Envelope>,
    /// It is the head, and stands already.
    again: bool,
}

/// Whether the head was appended by a delegated key.
fn is_delegated(feed: &Feed) -> bool {
    newest(feed).is_some_and(|entry| entry.by.is_some())
}

/// Whether the head has a date that only a wrong clock or a thief of the revoke key gives: with the signature of the release
/// role it would be that role's, and keep the feed fresh until then.
fn is_dated_ahead(desk: &Desk, feed: &Feed) -> bool {
    newest(feed).is_some_and(|entry| desk.moment().is_ahead(entry.issued_at, feed.spoken()))
}

fn newest(feed: &Feed) -> Option<Entry> {
    codec::decode::<Envelope>(feed.newest_entry()?).ok()?.open().ok()
}

enum Prepared {
    Draft(Draft),
    /// The head, signed or to be signed anew.
    Again(Draft),
    /// It stands in the feed already.
    Known(Head),
}

fn prepare(desk: &Desk, feeds: &Feeds, publisher: PublisherId, work: Work) -> Result<Prepared, Refusal> {
    let feed = feeds.get(publisher).filter(|f| f.own).ok_or("this node does not publish as this publisher")?;
    if feed.is_frozen() {
        return Err(unsafe_now("the feed is frozen: it holds two entries for one number; its root must reopen it"));
    }
    if feed.is_unsure() {
        return Err(unsafe_now(
            "an entry of this feed may be written down although what came with it could not be, so its number may be \
             taken: make room on the disk and start the node again",
        ));
    }
    if let Some(seq) = feed.lost() {
        return Err(unsafe_now(format!(
            "entry {seq} of this feed was written here and is lost, or may be: its log was damaged or is gone, and not only by \
             power that went while it was written; `softservice fsck` tells. Publishing now could fork the feed: connect \
             a peer that has the entry and let `softservice fsck --repair` ask it, restore the store's logs from a \
             backup, or open the next epoch with `softservice publisher recover`"
        )));
    }
    let root = feed.newest_root().ok_or("the publisher's root document is not known yet")?;
    let open = root.root.feed;
    if !open.stands(feed.newest()) {
        return Err(unsafe_now(format!(
            "root {} opened epoch {} after entry {}, and the catalogue at that entry is not here: connect a peer that has \
             it, or open the next epoch after an entry that is",
            root.root.version, open.epoch, open.from_seq
        )));
    }
    match work {
        Work::New { action, request } => new(desk, feed, root, *action, None, request).map(Prepared::Draft),
        Work::By { key, action } => new(desk, feed, root, *action, Some(key), false).map(Prepared::Draft),
        Work::Again { request } => again(desk, feed, root, request),
        Work::Signed(bytes) => signed_elsewhere(feed, root, &bytes),
    }
}

fn spoken_for(seq: u64) -> Refusal {
    unsafe_now(format!(
        "entry {seq} was handed out to be signed elsewhere: something else at that number would be a second word; have \
         that request signed and bring it back, or withdraw it when nobody will sign it any more"
    ))
}

fn new(
    desk: &Desk,
    feed: &Feed,
    root: &TrustedRoot,
    action: Action,
    by: Option<PublicKey>,
    request: bool,
) -> Result<Draft, Refusal> {
    let keys = by.map_or_else(|| root.signers(&action), |key| vec![key]);
    // A build machine's clock may lag behind the entry before; its entries do not.
    let now = desk.moment().time();
    let now = if by.is_some() { now.max(feed.newest_state().issued_at) } else { now };
    let entry = feed.newest_state().draft_by(root, action.clone(), by, now).map_err(|e| e.to_string())?;
    let mut payload = codec::encode(&entry).map_err(|e| e.to_string())?;
    if let Some((_, requested)) = feed.requested.as_ref().filter(|(head, _)| head.at == entry.at) {
        let before: Entry = codec::decode(requested).map_err(|e| e.to_string())?;
        if before.action != entry.action || before.by != by || before.prev != entry.prev {
            return Err(spoken_for(entry.at.seq));
        }
        payload.clone_from(requested);
    }
    let head = Head { at: entry.at, hash: Digest::of(&payload) };
    Ok(Draft { head, action, by, payload, keys, request, envelope: None, again: false })
}

fn again(desk: &Desk, feed: &Feed, root: &TrustedRoot, request: bool) -> Result<Prepared, Refusal> {
    let head = feed.newest();
    if head.at.seq == 0 || !feed.wants_signature() {
        return Ok(Prepared::Known(head));
    }
    if is_dated_ahead(desk, feed) {
        return Err(unsafe_now(format!(
            "entry {} is dated into the future, and whoever signs it anew calls the feed fresh until then: publish the next \
             entry instead",
            head.at.seq
        )));
    }
    let kept = feed.newest_entry().ok_or("the head's entry is not in memory: publish the next one instead")?;
    let envelope: Envelope = codec::decode(kept).map_err(|e| e.to_string())?;
    let entry: Entry = envelope.open().map_err(|e| e.to_string())?;
    let keys = root.root.roles.release.keys.clone();
    let (action, by, payload) = (entry.action, entry.by, envelope.payload);
    Ok(Prepared::Again(Draft { head, action, by, payload, keys, request, envelope: None, again: true }))
}

fn signed_elsewhere(feed: &Feed, root: &TrustedRoot, bytes: &[u8]) -> Result<Prepared, Refusal> {
    let envelope: Envelope = codec::decode(bytes).map_err(|e| e.to_string())?;
    let newest = feed.newest();
    if newest.at.seq > 0 && envelope.digest() == newest.hash {
        if !feed.wants_signature() {
            return Ok(Prepared::Known(newest));
        }
        let entry = verify_beginning(root, &envelope).map_err(|e| format!("the entry does not hold: {e}"))?;
        let (action, by, payload) = (entry.action, entry.by, envelope.payload.clone());
        let (keys, envelope) = (Vec::new(), Some(envelope));
        let draft = Draft { head: newest, action, by, payload, keys, request: false, envelope, again: true };
        return Ok(Prepared::Again(draft));
    }
    let (state, entry) =
        feed.newest_state().accept(root, &envelope).map_err(|e| format!("the entry does not hold: {e}"))?;
    if feed.requested.as_ref().is_some_and(|(head, _)| head.at == entry.at && head.hash != state.head.hash) {
        return Err(spoken_for(entry.at.seq));
    }
    let (head, action, by, payload) = (state.head, entry.action, entry.by, envelope.payload.clone());
    let (keys, envelope) = (Vec::new(), Some(envelope));
    Ok(Prepared::Draft(Draft { head, action, by, payload, keys, request: false, envelope, again: false }))
}
