//! Appending to an own feed: reserve the number, sign, check, keep, and only then tell anybody.
//!
//! Invariant: a signature leaves this process only inside an entry that is durable. So when the process dies, either
//! the entry is in the log, and its number is taken; or it is not, and nobody outside ever saw what was signed for that
//! number - then signing something else there is no second word. The reservation is kept before signing for what this
//! argument does not cover: a log whose end was lost, or keys that sign elsewhere. It says which digest stands at that
//! number if a peer shows one, and before a reserved number is signed anew no connected peer may know a newer head.
//! The disk's mark stands outside the log: where it is higher than everything in the log, nothing is signed until a
//! peer brings back what was lost.
//! Abandoning a reserved number was refused: feeds have no gaps.

use super::{
    desk::{Desk, Note},
    feeds::Feeds,
};
use crate::{
    codec,
    feed::{Action, Head},
    id::{FeedId, PublicKey, PublisherId},
    io::{Event, Job, Output, Record, Token},
    limits,
    sign::{Envelope, Kind, Signature},
};
use std::collections::{BTreeMap, VecDeque};

/// Entries that wait behind the one being appended: a build machine that releases many distros at once.
const QUEUE: usize = 64;

#[derive(Debug)]
struct Run {
    job: Job,
    token: Token,
    head: Head,
    payload: Vec<u8>,
    /// Who may sign it.
    keys: Vec<PublicKey>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reserving,
    Signing,
    /// The envelope that becomes durable.
    Keeping(Vec<u8>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Publish {
    running: BTreeMap<PublisherId, Run>,
    queue: BTreeMap<PublisherId, VecDeque<(Job, Action)>>,
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
        action: Action,
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
        queue.push_back((job, action));
        self.next(desk, feeds, publisher);
    }

    /// Begins what waits, if nothing runs.
    fn next(&mut self, desk: &mut Desk, feeds: &mut Feeds, publisher: PublisherId) {
        while !self.running.contains_key(&publisher) {
            let Some((job, action)) = self.queue.get_mut(&publisher).and_then(VecDeque::pop_front) else {
                self.queue.remove(&publisher);
                return;
            };
            match draft(desk, feeds, publisher, action) {
                Ok(Draft { head, payload, keys }) => {
                    let token = desk.keep(Record::Reserved { publisher, head });
                    self.running.insert(publisher, Run { job, token, head, payload, keys, stage: Stage::Reserving });
                }
                Err(why) => refuse(desk, job, why),
            }
        }
    }

    fn find(&self, token: Token) -> Option<PublisherId> {
        self.running.iter().find(|(_, run)| run.token == token).map(|(p, _)| *p)
    }

    pub(crate) fn durable(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token) {
        let Some(publisher) = self.find(token) else { return };
        let Some(run) = self.running.get_mut(&publisher) else { return };
        match &run.stage {
            Stage::Reserving => {
                feeds.reserve(publisher, run.head);
                run.stage = Stage::Signing;
                run.token = desk.sign(Kind::Entry, publisher, run.payload.clone(), run.keys.clone());
            }
            Stage::Signing => {}
            Stage::Keeping(envelope) => {
                // A larger entry is found by its head.
                if envelope.len() <= limits::GOSSIP_BYTES {
                    desk.out(Output::Gossip { publisher, bytes: envelope.clone() });
                }
                let (job, head) = (run.job, run.head);
                desk.tell(Event::Published { job, head });
                desk.note(Note::Published { publisher });
                self.running.remove(&publisher);
                self.next(desk, feeds, publisher);
            }
        }
    }

    pub(crate) fn not_kept(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token, why: &str) {
        let Some(publisher) = self.find(token) else { return };
        if let Some(run) = self.running.remove(&publisher) {
            refuse(desk, run.job, format!("it could not be written down: {why}"));
        }
        self.next(desk, feeds, publisher);
    }

    pub(crate) fn signed(&mut self, desk: &mut Desk, feeds: &mut Feeds, token: Token, mut signatures: Vec<Signature>) {
        let Some(publisher) = self.find(token) else { return };
        let Some(run) = self.running.get_mut(&publisher) else { return };
        if !matches!(run.stage, Stage::Signing) {
            return;
        }
        if signatures.is_empty() {
            let job = run.job;
            self.running.remove(&publisher);
            refuse(desk, job, "no key that may sign this is on this device");
            return self.next(desk, feeds, publisher);
        }
        signatures.truncate(limits::SIGNATURES);
        signatures.sort();
        signatures.dedup_by(|a, b| a.key == b.key);
        let feed = FeedId::main(publisher);
        let envelope = Envelope { kind: Kind::Entry, publisher, feed, payload: run.payload.clone(), signatures };
        match feeds.append(desk, publisher, &envelope) {
            Ok((token, bytes)) => {
                run.token = token;
                run.stage = Stage::Keeping(bytes);
            }
            Err(why) => {
                let job = run.job;
                self.running.remove(&publisher);
                refuse(desk, job, why);
                self.next(desk, feeds, publisher);
            }
        }
    }
}

/// The next entry of an own feed.
struct Draft {
    /// The head that it will be.
    head: Head,
    /// What is signed.
    payload: Vec<u8>,
    /// Who may, most wanted first.
    keys: Vec<PublicKey>,
}

fn draft(desk: &Desk, feeds: &Feeds, publisher: PublisherId, action: Action) -> Result<Draft, String> {
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
    let keys = root.signers(&action);
    let entry = feed.newest_state().draft(root, action, desk.moment().time()).map_err(|e| e.to_string())?;
    let payload = codec::encode(&entry).map_err(|e| e.to_string())?;
    let head = Head { at: entry.at, hash: crate::id::Digest::of(&payload) };
    Ok(Draft { head, payload, keys })
}
