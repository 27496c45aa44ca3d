//! Taking what peers bring of a feed, by page or by gossip, in the order of `verify`: batches it, keeps it, or says why not.
//! Invariant: a batch holds only what was verified against it, and each of its parts is on its way to the disk.

use super::{
    Feeds,
    feed::{Batch, Clash, Feed},
    page::Page,
    verify::{Fault, is_forged, proves, pruned, signature_error, spoken},
};
use crate::{
    codec,
    feed::{Conflict, Entry, Equivocation, FeedError, Head, Position, verify_beginning},
    id::{Digest, Peer, PublisherId},
    io::{Record, Step},
    limits,
    machine::desk::Desk,
    message::Bytes,
    root::{Root, RootError, TrustedRoot},
    sign::{Envelope, Kind},
};

/// What a page of a feed came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Something new was verified.
    New,
    /// Nothing that was not known.
    Nothing,
    /// An entry to begin with, whose catalogue is too long for a page.
    Begin(Beginning),
    /// The page does not continue what is here: ask again, from this place. `doubt` when its sender may know another chain of
    /// root documents.
    Ask { from: Head, doubt: bool },
    /// Its publisher has had so much kept lately that the rest waits.
    Later,
    /// Refused; `forged` when the sender cannot be honest, `doubt` as above.
    Refused { fault: Fault, forged: bool, doubt: bool },
}

/// A verified entry to begin with, and the catalogue that it commits to and that is not here yet.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// The entry, as it came.
    pub(crate) entry: Vec<u8>,
    /// The digest of the catalogue.
    pub(crate) snapshot: Digest,
}

/// What a gossip message came to.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Valid and new.
    New,
    /// Valid and known.
    Known { is_head: bool },
    /// Valid, with signatures beside it that are worth nothing: taken without them, if it was new, and not passed on.
    Padded,
    /// Of no use here.
    Useless,
    /// It tells of something that is missing here: ask its bringer from this place.
    Ask(Head),
    /// Signed by keys that no root here gives the role: ask its bringer for a newer root.
    UnknownKeys(Head),
    /// Nobody honest passes this on.
    Forged(Fault),
}

impl Feeds {
    /// Takes an answer to a pull.
    pub(crate) fn take_page(&mut self, desk: &mut Desk, peer: Peer, publisher: PublisherId, page: Page) -> Taken {
        let Some(feed) = self.feeds.get_mut(&publisher).filter(|f| f.is_known()) else { return Taken::Nothing };
        if page.entries.len() > limits::FEED_PAGE {
            let fault = Fault::Refused("a page brings more entries than one holds");
            desk.refused(Step::Length);
            return Taken::Refused { fault, forged: true, doubt: false };
        }
        let mut batch = feed.batch();
        let before = batch.waiting.len();
        let (mut clash, mut begin) = (None, None);
        // The envelope that was looked at last: the one to blame where something is wrong.
        let mut last = None;
        let mut result = feed.take_roots(desk, &mut batch, (peer, publisher), &page, &mut clash, &mut last);
        if result.is_ok() && feed.may_take_entries(&batch) {
            result = feed.take_entries(desk, &mut batch, publisher, &page, (&mut clash, &mut begin), &mut last);
        } else if result.is_ok() && feed.is_frozen() && !page.entries.is_empty() {
            desk.refused(Step::Frozen);
        }
        if result.is_ok()
            && begin.is_none()
            && feed.reaches_pin(batch.root.as_ref())
            && let Some(bytes) = &page.fresh
        {
            last = Some(bytes);
            result = batch.came(&bytes.0).and_then(|(said, bytes)| {
                feed.take_fresh(desk, &mut batch, publisher, (&said, &bytes), &mut clash, false)
            });
            // A statement that says nothing new takes nothing from the entries before it; nor does one whose sender may not
            // know yet that its key was dropped from what else it brought.
            let new = batch.waiting.len() > before;
            if matches!(result, Err(Fault::Feed(FeedError::Known(_))))
                || (new && result.as_ref().is_err_and(|f| signature_error(f).is_some()))
            {
                result = Ok(());
            }
        }
        note_refusal(desk, &result);
        let new = batch.waiting.len() > before || feed.root_on_trial(peer).is_some();
        let forged = match (&result, &batch.root) {
            (Err(fault), Some(root)) => is_page_forged(root, fault, last),
            (Err(fault), None) => {
                !matches!(fault, Fault::Refused(_) | Fault::Later | Fault::OtherFloor | Fault::OtherMark)
            }
            (Ok(()), _) => false,
        };
        let head = batch.state.head;
        let unsigned = batch.anchor.is_none() && head.at.seq > 0;
        self.put(desk, publisher, batch);
        if let Some((one, other)) = clash {
            self.freeze(desk, publisher, one, other);
            return Taken::New;
        }
        if let (Ok(()), Some(beginning)) = (&result, begin) {
            return Taken::Begin(beginning);
        }
        let old = result.as_ref().err().is_some_and(|fault| signature_error(fault).is_some()) && !forged;
        // Signed under documents that are not here: older ones, or those of another chain.
        let doubt = old || matches!(result, Err(Fault::Root(RootError::OtherChain)));
        let ask = |from| Taken::Ask { from, doubt };
        match result {
            Err(_) if old && page.is_only(head) => Taken::Nothing,
            // Entries that only keys of an earlier root signed say nothing: whoever sent them has a head with a snapshot.
            Err(_) if old && page.snapshot.is_none() && !page.entries.is_empty() => ask(Head::START),
            Err(Fault::Later) => Taken::Later,
            Ok(()) if new => Taken::New,
            Ok(()) => Taken::Nothing,
            Err(Fault::Feed(FeedError::Known(_))) => Taken::Nothing,
            Err(Fault::Feed(FeedError::Gap { .. })) if new => Taken::New,
            Err(Fault::Feed(FeedError::Gap { .. })) => ask(head),
            // Theirs is signed, ours only by keys that are gone: a catalogue that counts now takes its place.
            Err(Fault::Feed(FeedError::Equivocation(_) | FeedError::Broken { .. }))
                if unsigned && page.snapshot.is_none() =>
            {
                ask(Head::START)
            }
            Err(Fault::Feed(FeedError::Broken { .. })) if head.at.seq > 0 && page.snapshot.is_none() => {
                ask(one_back(head))
            }
            Err(fault) => Taken::Refused { fault, forged, doubt },
        }
    }

    /// Judges a gossiped envelope.
    pub(crate) fn judge(&mut self, desk: &mut Desk, envelope: &Envelope, bytes: &[u8]) -> Judged {
        self.judge_said(desk, envelope, bytes, false)
    }
    /// Judges what was signed here: as anybody would, but that it was said a moment ago is no reason not to say it.
    pub(crate) fn judge_own(&mut self, desk: &mut Desk, envelope: &Envelope, bytes: &[u8]) -> Judged {
        self.judge_said(desk, envelope, bytes, true)
    }
    fn judge_said(&mut self, desk: &mut Desk, envelope: &Envelope, bytes: &[u8], ours: bool) -> Judged {
        let publisher = envelope.publisher;
        let Some(feed) = self.feeds.get_mut(&publisher).filter(|f| f.is_known()) else {
            desk.refused(Step::Unfollowed);
            return Judged::Useless;
        };
        if feed.is_frozen() {
            desk.refused(Step::Frozen);
            return Judged::Useless;
        }
        if envelope.kind == Kind::Root {
            return Judged::Useless;
        }
        let Some(root) = feed.newest_root().cloned() else { return Judged::Ask(Head::START) };
        if !feed.is_anchored() {
            return Judged::Ask(feed.ask_from());
        }
        let mut batch = feed.batch();
        let mut clash = None;
        let bare = pruned(&root, envelope);
        let (clean, bytes) = bare.as_ref().map_or((envelope, bytes), |(e, b)| (e, b.as_slice()));
        let result = match envelope.kind {
            Kind::Fresh => feed.take_fresh(desk, &mut batch, publisher, (clean, bytes), &mut clash, ours),
            _ => feed.take_entry(desk, &mut batch, publisher, clean, bytes, &mut clash),
        };
        let head = batch.state.head;
        self.put(desk, publisher, batch);
        note_refusal(desk, &result);
        if let Some((one, other)) = clash {
            self.freeze(desk, publisher, one, other);
            return if bare.is_some() { Judged::Padded } else { Judged::New };
        }
        match result {
            Ok(()) | Err(Fault::Feed(FeedError::Known(_))) if bare.is_some() => Judged::Padded,
            Ok(()) => Judged::New,
            Err(Fault::Feed(FeedError::Known(_))) => {
                // What only old keys signed is not passed on: whoever is behind would learn nothing from it.
                let signed = self.get(publisher).is_some_and(|f| !f.wants_signature());
                Judged::Known { is_head: signed && envelope.digest() == head.hash }
            }
            Err(Fault::Feed(FeedError::Gap { .. })) => Judged::Ask(head),
            Err(Fault::Feed(FeedError::Epoch { open, found })) if found > open => Judged::Ask(head),
            // Signed, but it continues something else: what stands at our head may be the other branch's start.
            // Or signed by whoever speaks now, while ours has only signatures that prove nothing any more.
            Err(Fault::Feed(FeedError::Broken { .. } | FeedError::Equivocation(_) | FeedError::Reopened { .. })) => {
                Judged::Ask(one_back(head))
            }
            Err(Fault::Refused(_) | Fault::Later | Fault::OtherFloor | Fault::OtherMark) => Judged::Useless,
            Err(Fault::Feed(FeedError::Epoch { .. })) => Judged::Useless,
            Err(fault) => match signature_error(&fault) {
                Some(error) if !is_forged(&root, envelope, error) => Judged::UnknownKeys(head),
                _ => Judged::Forged(fault),
            },
        }
    }

    /// Judges a gossiped proof.
    pub(crate) fn judge_proof(&mut self, desk: &mut Desk, proof: Equivocation) -> Judged {
        let Some(feed) = self.get(proof.publisher) else {
            desk.refused(Step::Unfollowed);
            return Judged::Useless;
        };
        let known = feed.forked || (feed.is_frozen() && proof.one.kind != Kind::Root);
        // Below the newest root that is told of, its keys may have been rotated out long ago.
        let judges = !known && (proof.one.kind != Kind::Root || feed.may_judge_roots());
        let Some(root) = feed.newest_root().filter(|_| judges) else { return Judged::Useless };
        if !proves(root, &proof.one, &proof.other) {
            // Perhaps of an epoch or of keys that are not ours: of no use here, nobody blamed.
            return Judged::Useless;
        }
        let bare = [pruned(root, &proof.one), pruned(root, &proof.other)];
        let padded = bare.iter().any(Option::is_some);
        let [one, other] = bare.map(|bare| bare.map(|(envelope, _)| envelope));
        // Once it is kept, everybody hears of it from here as well.
        self.freeze(desk, proof.publisher, one.unwrap_or(proof.one), other.unwrap_or(proof.other));
        if padded { Judged::Padded } else { Judged::New }
    }
}

fn note_refusal(desk: &mut Desk, result: &Result<(), Fault>) {
    if let Some(step) = result.as_ref().err().and_then(Fault::step) {
        desk.refused(step);
    }
}

/// The place before: whoever asks from there is shown what stands at this one.
pub(crate) fn one_back(head: Head) -> Head {
    Head { at: Position { epoch: head.at.epoch, seq: head.at.seq.saturating_sub(1) }, hash: Digest::ZERO }
}

impl Feed {
    fn take_roots<'p>(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        (peer, publisher): (Peer, PublisherId),
        page: &'p Page,
        clash: &mut Clash,
        last: &mut Option<&'p Bytes>,
    ) -> Result<(), Fault> {
        let mut roots = page.roots.iter();
        if !self.reaches_pin(batch.root.as_ref()) {
            self.try_roots(desk, batch, (peer, publisher), page.more, &mut roots, last)?;
        }
        roots.try_for_each(|bytes| {
            *last = Some(bytes);
            self.take_root(desk, batch, publisher, &bytes.0, clash)
        })
    }

    /// Takes roots up to the pin, all or none: below it, whoever has a root key that was rotated out can show another chain,
    /// and one that was kept would bar the honest one. What does not end at the pin by the last page is forgotten; so is a
    /// fork on the way, for the pin tells which of the two is meant.
    fn try_roots<'a>(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        (peer, publisher): (Peer, PublisherId),
        more: bool,
        roots: &mut impl Iterator<Item = &'a Bytes>,
        last: &mut Option<&'a Bytes>,
    ) -> Result<(), Fault> {
        let before = self.on_trial.take_if(|(from, _)| *from == peer).map(|(_, batch)| batch);
        let mut trial = before.unwrap_or_else(|| Batch { roots: Vec::new(), ..batch.clone() });
        let known = trial.roots.len();
        while !self.reaches_pin(trial.root.as_ref()) {
            let Some(bytes) = roots.next() else {
                // A page that brings nothing of it leads nowhere.
                if more && trial.roots.len() > known {
                    self.on_trial = Some((peer, trial));
                }
                return Ok(());
            };
            *last = Some(bytes);
            if let Err(fault) = trial.root_bytes(self, publisher, &bytes.0) {
                if let Fault::Root(RootError::Protocol { needed }) = fault {
                    self.note_needs(desk, publisher, needed);
                }
                return Err(off_the_pin(trial.root.as_ref(), &bytes.0, fault));
            }
        }
        for envelope in &trial.roots {
            batch.waiting.insert(desk.keep(Record::Root { publisher, envelope: envelope.clone() }));
        }
        let Batch { mut roots, waiting, failed, .. } = std::mem::take(batch);
        roots.append(&mut trial.roots);
        *batch = Batch { roots, waiting, failed, ..trial };
        Ok(())
    }

    /// Entries count only under a root chain that reaches the ticket's pin, and while nothing is proven against it.
    fn may_take_entries(&self, batch: &Batch) -> bool {
        let Some(root) = &batch.root else { return false };
        let anchored = self.reaches_pin(Some(root));
        let reopened = Some(root.root.feed.epoch) > self.root.as_ref().map(|r| r.root.feed.epoch);
        // The keys that spoke twice may be gone.
        let newer = Some(root.digest) != self.root.as_ref().map(|r| r.digest);
        let thawed = newer && self.proof.as_ref().is_some_and(|p| !proves(root, &p.one, &p.other));
        anchored && !self.forked && (!self.is_frozen() || reopened || thawed)
    }

    fn take_entries<'p>(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        publisher: PublisherId,
        page: &'p Page,
        (clash, begin): (&mut Clash, &mut Option<Beginning>),
        last: &mut Option<&'p Bytes>,
    ) -> Result<(), Fault> {
        // A pair that proves something stands alone, and is nothing to be appended.
        if let ([one, other], Some(root)) = (page.entries.as_slice(), &batch.root) {
            let (one, other) = (codec::decode::<Envelope>(&one.0)?, codec::decode::<Envelope>(&other.0)?);
            if proves(root, &one, &other) && (one.kind != Kind::Root || self.may_judge_roots()) {
                *clash = Some((one, other));
                return Ok(());
            }
            if one.kind == Kind::Root {
                return Err(Fault::Refused("two root documents that prove nothing stand in the place of entries"));
            }
        }
        let mut entries = page.entries.iter();
        if let Some(snapshot) = &page.snapshot {
            let bytes = entries.next().ok_or(Fault::Refused("a snapshot came without its head entry"))?;
            *last = Some(bytes);
            self.take_catalogue(desk, batch, publisher, &bytes.0, &snapshot.0, (clash, begin))?;
            if begin.is_some() {
                return Ok(());
            }
        }
        for bytes in entries {
            *last = Some(bytes);
            let (envelope, bytes) = batch.came(&bytes.0)?;
            let result = self.take_entry(desk, batch, publisher, &envelope, &bytes, clash);
            if clash.is_some() {
                return Ok(());
            }
            match result {
                // Pages may overlap with what came meanwhile.
                Ok(()) | Err(Fault::Feed(FeedError::Known(_))) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// An entry with the catalogue at it; an empty one where it is too long for a page.
    fn take_catalogue(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        publisher: PublisherId,
        bytes: &[u8],
        snapshot: &[u8],
        (clash, begin): (&mut Clash, &mut Option<Beginning>),
    ) -> Result<(), Fault> {
        let (envelope, bytes) = batch.came(bytes)?;
        // The next entry says it all: a whole catalogue for each number is what somebody sends to fill a disk.
        let head = batch.state.head;
        let is_next = |e: Entry| head.at.seq > 0 && e.prev == head.hash && e.at.seq == head.at.seq.saturating_add(1);
        if envelope.open().is_ok_and(is_next)
            && self.take_entry(desk, batch, publisher, &envelope, &bytes, clash).is_ok()
        {
            return Ok(());
        }
        self.purse.admit(desk.now)?;
        let taken = match snapshot {
            [] => batch.begins_at(self, &envelope).map(Some),
            whole => batch.onboard_bytes(self, &envelope, &bytes, whole).map(|()| None),
        };
        match taken {
            // What may follow is asked for when it is here.
            Ok(Some(snapshot)) => *begin = Some(Beginning { entry: bytes, snapshot }),
            Ok(None) => {
                self.purse.pay_catalogue(desk.now, bytes.len() + snapshot.len());
                let record = Record::Onboarded { publisher, envelope: bytes, snapshot: snapshot.to_vec() };
                batch.waiting.insert(desk.keep(record));
            }
            // Not the catalogue, but perhaps the entry is better signed than ours, or another one.
            Err(Fault::Feed(FeedError::Known(_))) => {
                match self.take_entry(desk, batch, publisher, &envelope, &bytes, clash) {
                    Ok(()) | Err(Fault::Feed(FeedError::Known(_) | FeedError::Equivocation(_))) => {}
                    Err(fault) => return Err(fault),
                }
            }
            Err(fault) => {
                self.tell_another(publisher, &fault);
                return Err(fault);
            }
        }
        Ok(())
    }

    fn take_entry(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        publisher: PublisherId,
        envelope: &Envelope,
        bytes: &[u8],
        clash: &mut Clash,
    ) -> Result<(), Fault> {
        let place = batch.state.head.at;
        if let Some(Conflict::Feed(at)) = spoken(envelope).map(|(at, _)| at)
            && at.seq <= place.seq
            && self.kept_at(batch, at.seq) == Some(bytes)
        {
            // The very bytes that were verified once.
            return Err(FeedError::Known(at.seq).into());
        }
        self.refuse_ahead(desk, batch, envelope)?;
        self.purse.admit(desk.now)?;
        let before = batch.state.clone();
        match batch.entry_bytes(self, envelope, bytes) {
            Ok(()) => {
                self.purse.pay_entry(desk.now, &before, envelope, bytes.len());
                batch.waiting.insert(desk.keep(Record::Entry { publisher, envelope: bytes.to_vec() }));
                Ok(())
            }
            Err(Fault::Feed(error @ (FeedError::Equivocation(_) | FeedError::Known(_)))) => {
                self.clashes(batch, envelope, clash);
                Err(error.into())
            }
            Err(fault) => {
                self.tell_another(publisher, &fault);
                Err(fault)
            }
        }
    }

    /// Remembers that somebody showed another entry where one is remembered. At the mark, whoever brings what was here is welcome;
    /// what a ticket names cannot come to be any more.
    fn tell_another(&mut self, publisher: PublisherId, fault: &Fault) {
        let told = match fault {
            Fault::OtherFloor => &mut self.forked,
            Fault::OtherMark => &mut self.rival,
            _ => return,
        };
        if !std::mem::replace(told, true) {
            tracing::error!(%publisher, %fault, "a peer shows another history");
        }
    }

    /// A delegated key alone dates nothing ahead of the clocks: it would bind whoever comes after it.
    fn refuse_ahead(&self, desk: &Desk, batch: &Batch, envelope: &Envelope) -> Result<(), Fault> {
        let Some(root) = &batch.root else { return Ok(()) };
        let ahead = |e: Entry| e.by.is_some() && desk.moment().is_ahead(e.issued_at, self.spoken());
        if envelope.kind == Kind::Entry
            && envelope.open::<Entry>().is_ok_and(ahead)
            && verify_beginning(root, envelope).is_err()
        {
            return Err(Fault::Refused("a delegated key dates its entry into the future"));
        }
        Ok(())
    }

    /// The entry of this number, if it is still in memory.
    fn kept_at<'a>(&'a self, batch: &'a Batch, seq: u64) -> Option<&'a [u8]> {
        let coming = batch.entries.iter().rev().find(|(s, _)| *s == seq).map(|(_, b)| b.as_slice());
        coming.or_else(|| self.trail.get(seq))
    }

    /// Finds the entry of ours, if it is still in memory, that `envelope` contradicts.
    pub(super) fn clashes(&self, batch: &Batch, envelope: &Envelope, clash: &mut Clash) {
        let Some(root) = &batch.root else { return };
        let Some((Conflict::Feed(at), _)) = spoken(envelope) else { return };
        let Some(ours) = self.kept_at(batch, at.seq).and_then(|bytes| codec::decode::<Envelope>(bytes).ok()) else {
            return;
        };
        if proves(root, &ours, envelope) {
            *clash = Some((ours, envelope.clone()));
        }
    }
}

/// What is wrong with a root document below the pin. Only what nobody honest passes on is a fault of whoever brought it: a
/// chain that ends elsewhere was signed by somebody, and a page may have been asked for when more of it was known.
fn off_the_pin(root: Option<&TrustedRoot>, bytes: &[u8], fault: Fault) -> Fault {
    let envelope = codec::decode::<Envelope>(bytes).ok();
    let forged = match (&fault, root, envelope) {
        (Fault::Root(RootError::Signature(error)), Some(root), Some(envelope)) => is_forged(root, &envelope, error),
        (Fault::Root(_), None, Some(envelope)) => envelope.open::<Root>().is_ok_and(|root| root.version == 1),
        _ => matches!(fault, Fault::Codec(_) | Fault::Root(RootError::Codec(_))),
    };
    if forged { fault } else { Fault::Refused("the root documents do not lead to the one that the ticket pins") }
}

impl Page {
    /// Whether it brings nothing but this entry.
    fn is_only(&self, head: Head) -> bool {
        let digest = |b: &Bytes| codec::decode::<Envelope>(&b.0).map(|e| e.digest());
        matches!(self.entries.as_slice(), [only] if digest(only) == Ok(head.hash))
    }
}

/// Whether whoever sent a page cannot have verified it: honest devices keep only what they verified. Only the envelope that
/// was looked at `last` is judged: a page has room for thousands of signatures.
fn is_page_forged(root: &TrustedRoot, fault: &Fault, last: Option<&Bytes>) -> bool {
    if let Some(error) = signature_error(fault) {
        let envelope = last.and_then(|b| codec::decode::<Envelope>(&b.0).ok());
        return envelope.is_some_and(|e| is_forged(root, &e, error));
    }
    matches!(fault, Fault::Codec(_) | Fault::Feed(FeedError::Codec(_)) | Fault::Root(RootError::Codec(_)))
}
