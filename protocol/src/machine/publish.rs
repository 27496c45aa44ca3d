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

use super::{
    desk::{Desk, Note},
    feeds::{Feed, Feeds},
};
use crate::{
    codec,
    feed::{Action, Entry, Head},
    id::{Digest, FeedId, PublicKey, PublisherId},
    io::{Event, Job, Output, Record, Token},
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
    New { action: Action, request: bool },
    /// An entry that was signed elsewhere, as it came.
    Signed(Vec<u8>),
}

#[derive(Debug)]
struct Run {
    job: Job,
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
    queue: BTreeMap<PublisherId, VecDeque<(Job, Work)>>,
}

fn refuse(desk: &mut Desk, job: Job, why: impl Into<String>) {
    desk.tell(Event::Refused { job, why: why.into() });
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
            return refuse(desk, job, why);
        }
        let queue = self.queue.entry(publisher).or_default();
        if queue.len() >= QUEUE {
            return refuse(desk, job, format!("{QUEUE} entries of this publisher already wait"));
        }
        queue.push_back((job, work));
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
                Ok(Prepared::Known(head)) => desk.tell(Event::Published { job, head }),
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
                feeds.request(publisher, run.draft.head, run.draft.payload.clone());
                desk.tell(Event::Unsigned { job, publisher, request, have, threshold });
                self.end(desk, feeds, publisher);
            }
            Stage::Keeping(envelope) => {
                // A larger entry is found by its head.
                if envelope.len() <= limits::GOSSIP_BYTES {
                    desk.out(Output::Gossip { publisher, bytes: envelope.clone() });
                }
                desk.tell(Event::Published { job, head: run.draft.head });
                desk.note(Note::Published { publisher });
                self.end(desk, feeds, publisher);
            }
        }
    }

    /// What ran is over: begins what waits behind it.
    fn end(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId) {
        self.running.remove(&publisher);
        self.next(desk, feeds, publisher);
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
        let lacks = root.and_then(|root| lacking(root, &envelope, &run.draft.action));
        let Some((have, threshold)) = lacks else { return self.keep(desk, feeds, publisher, &envelope) };
        let job = run.job;
        if !run.draft.request {
            desk.tell(Event::Unsigned { job, publisher, request: None, have, threshold });
            return self.end(desk, feeds, publisher);
        }
        match codec::encode(&envelope) {
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
fn lacking(root: &TrustedRoot, envelope: &Envelope, action: &Action) -> Option<(usize, usize)> {
    let of = |role: &crate::root::Role| {
        let have = envelope.signatures.iter().filter(|s| role.keys.contains(&s.key)).count();
        (have, usize::from(role.threshold))
    };
    let roles = &root.root.roles;
    let release = of(&roles.release);
    let fewest = match action {
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
    /// What is signed.
    payload: Vec<u8>,
    /// Who may, most wanted first.
    keys: Vec<PublicKey>,
    /// Too few keys are no refusal: what is here is handed out to be signed elsewhere.
    request: bool,
    /// Signed already.
    envelope: Option<Envelope>,
}

enum Prepared {
    Draft(Draft),
    /// It stands in the feed already.
    Known(Head),
}

fn prepare(desk: &Desk, feeds: &Feeds, publisher: PublisherId, work: Work) -> Result<Prepared, String> {
    let feed = feeds.get(publisher).filter(|f| f.own).ok_or("this node does not publish as this publisher")?;
    if feed.is_frozen() {
        return Err("the feed is frozen: it holds two entries for one number; its root must reopen it".into());
    }
    if let Some(seq) = feed.lost() {
        return Err(format!(
            "entry {seq} of this feed was written here and is lost, its log was damaged: publishing now would fork the \
             feed; connect a peer that has the entry, or restore the store's logs from a backup"
        ));
    }
    let root = feed.newest_root().ok_or("the publisher's root document is not known yet")?;
    match work {
        Work::New { action, request } => new(desk, feed, root, action, request).map(Prepared::Draft),
        Work::Signed(bytes) => signed_elsewhere(feed, root, &bytes),
    }
}

fn spoken_for(seq: u64) -> String {
    format!(
        "entry {seq} was handed out to be signed elsewhere: something else at that number would be a second word; have \
         that request signed and bring it back, or withdraw it when nobody will sign it any more"
    )
}

fn new(desk: &Desk, feed: &Feed, root: &TrustedRoot, action: Action, request: bool) -> Result<Draft, String> {
    let keys = root.signers(&action);
    let entry = feed.newest_state().draft(root, action.clone(), desk.moment().time()).map_err(|e| e.to_string())?;
    let mut payload = codec::encode(&entry).map_err(|e| e.to_string())?;
    if let Some((_, requested)) = feed.requested.as_ref().filter(|(head, _)| head.at == entry.at) {
        let before: Entry = codec::decode(requested).map_err(|e| e.to_string())?;
        if before.action != entry.action || before.prev != entry.prev {
            return Err(spoken_for(entry.at.seq));
        }
        payload.clone_from(requested);
    }
    let head = Head { at: entry.at, hash: Digest::of(&payload) };
    Ok(Draft { head, action, payload, keys, request, envelope: None })
}

fn signed_elsewhere(feed: &Feed, root: &TrustedRoot, bytes: &[u8]) -> Result<Prepared, String> {
    let envelope: Envelope = codec::decode(bytes).map_err(|e| e.to_string())?;
    let newest = feed.newest();
    if newest.at.seq > 0 && envelope.digest() == newest.hash {
        return Ok(Prepared::Known(newest));
    }
    let (state, entry) =
        feed.newest_state().accept(root, &envelope).map_err(|e| format!("the entry does not hold: {e}"))?;
    if feed.requested.as_ref().is_some_and(|(head, _)| head.at == entry.at && head.hash != state.head.hash) {
        return Err(spoken_for(entry.at.seq));
    }
    let (head, action, payload) = (state.head, entry.action, envelope.payload.clone());
    Ok(Prepared::Draft(Draft { head, action, payload, keys: Vec::new(), request: false, envelope: Some(envelope) }))
}
