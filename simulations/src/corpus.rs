//! What is published in a run: real keys, roots, releases and manifests, made once from the seed and shared by all
//! nodes. Invariant: every signed or hashed document is real and passes the protocol's own checks; only the chunks of
//! file content are names and lengths without bytes, because 10 000 nodes could not hold them.

use crate::{
    dice::Dice,
    documents::{Document, include, listing},
    files::{Files, tree_of},
};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    codec::{self, Wire},
    feed::Listing,
    id::{ChunkId, FeedId, PublicKey, PublisherId, ReleaseId},
    io::{Alike, Depth, Stage, WantList},
    release::{Include, ReleaseRef},
    root::{Root, TrustedRoot, publisher_of},
    sign::{self, Envelope, Kind, Signature},
    time::{Span, Time},
};
use softservice_store::{MemoryStore, Store as _, StoreError, closure};
use std::collections::BTreeMap;

/// Artifacts of the corpus are for all platforms; the store wants to know which is meant.
const PLATFORM: &str = "linux/x86_64";

/// A publisher with all its keys.
#[derive(Debug)]
pub struct Author {
    /// Its name on the network.
    pub publisher: PublisherId,
    /// Root envelopes, version 1 first.
    pub roots: Vec<Vec<u8>>,
    /// The newest root, as anybody who verified the chain has it.
    pub trusted: TrustedRoot,
    root: SigningKey,
    release: SigningKey,
    fresh: SigningKey,
}

/// A number for each chunk that exists in the run, so that a disk is a set of small numbers.
pub type ChunkNumber = u32;

/// Everything that one release needs.
#[derive(Debug)]
pub struct Closure {
    /// Release documents, the release's own first.
    pub documents: Vec<ChunkRef>,
    /// Chunks of tree manifests, each once.
    pub manifests: Vec<ChunkRef>,
    /// Content order, each chunk once.
    pub content: Vec<ChunkRef>,
    /// The same three by number.
    pub numbers: [Vec<ChunkNumber>; 3],
}

impl Closure {
    /// Bytes of all three stages.
    pub fn bytes(&self) -> u64 {
        [&self.documents, &self.manifests, &self.content].into_iter().flatten().map(|c| u64::from(c.len)).sum()
    }
    /// All chunks by number.
    pub fn all(&self) -> impl Iterator<Item = ChunkNumber> + '_ {
        self.numbers.iter().flatten().copied()
    }
}

/// One version of the main distro.
#[derive(Debug)]
pub struct Edition {
    /// As its publisher lists it.
    pub listing: Listing,
    /// Pointer to its bytes.
    pub release: ReleaseRef,
}

/// Everything that exists before anybody has it.
#[derive(Debug)]
pub struct Corpus {
    /// The main publisher first, then the one it includes.
    pub authors: Vec<Author>,
    /// Versions of the main distro, oldest first.
    pub editions: Vec<Edition>,
    closures: BTreeMap<ReleaseId, Closure>,
    numbers: BTreeMap<ChunkId, ChunkNumber>,
    lengths: Vec<u32>,
    library: MemoryStore,
    sizes: BTreeMap<ReleaseId, u32>,
}

impl Author {
    pub(crate) fn new(dice: &mut Dice, now: Time) -> Self {
        let mut key = || {
            let mut secret = [0; 32];
            secret.copy_from_slice(&dice.bytes(32));
            SigningKey::from_bytes(&secret)
        };
        let (root, release, fresh, revoke) = (key(), key(), key(), key());
        let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
        let expires = now + Span::days(365);
        let document = Root::first(public(&root), public(&release), public(&fresh), public(&revoke), now, expires);
        let payload = encoded(&document);
        let publisher = publisher_of(&payload);
        let envelope = Envelope::seal(Kind::Root, publisher, FeedId::main(publisher), payload, &[&root]);
        // The protocol's own check: a corpus that honest nodes would refuse proves nothing.
        let trusted = TrustedRoot::first(publisher, &envelope)
            .unwrap_or_else(|e| panic!("the corpus made a root that the protocol refuses: {e}"));
        Self { publisher, trusted, roots: vec![encoded(&envelope)], root, release, fresh }
    }

    /// Signs as the role that `kind` needs.
    pub fn sign(&self, kind: Kind, feed: FeedId, payload: &[u8]) -> Signature {
        let key = match kind {
            Kind::Root => &self.root,
            Kind::Entry => &self.release,
            Kind::Fresh => &self.fresh,
        };
        sign::sign(key, kind, self.publisher, feed, payload)
    }
}

impl Corpus {
    /// Draws a corpus: `versions` of a distro of about `mib` MiB, a quarter of it in an included distro.
    pub fn new(seed: u64, mib: f64, versions: usize, shared: f64, now: Time) -> Self {
        let mut dice = Dice::new(seed, "corpus");
        let authors = vec![Author::new(&mut dice, now), Author::new(&mut dice, now)];
        let mut corpus = Self {
            authors,
            editions: Vec::new(),
            closures: BTreeMap::new(),
            numbers: BTreeMap::new(),
            lengths: Vec::new(),
            library: MemoryStore::new(),
            sizes: BTreeMap::new(),
        };
        let bytes = (mib * 1_048_576.0) as u64;
        let mut part = Files::draw(&mut dice, bytes / 4);
        let mut whole = Files::draw(&mut dice, bytes - bytes / 4);
        for version in 1..=versions {
            if version > 1 {
                part.change(&mut dice, shared);
                whole.change(&mut dice, shared);
            }
            let included = corpus.release(&mut dice, 1, "part", version, &part, Vec::new());
            let include = include(corpus.authors[1].publisher, "part", &format!("{version}.0.0"), included);
            let release = corpus.release(&mut dice, 0, "whole", version, &whole, vec![include]);
            let listing = listing("whole", &format!("{version}.0.0"), release);
            corpus.editions.push(Edition { listing, release });
        }
        corpus
    }

    fn release(
        &mut self,
        dice: &mut Dice,
        author: usize,
        distro: &str,
        version: usize,
        files: &Files,
        includes: Vec<Include>,
    ) -> ReleaseRef {
        let (tree, tree_manifest) = tree_of(&files.manifest());
        let (source, source_manifest) = tree_of(&Files::draw(dice, 2000).manifest());
        let document = Document {
            publisher: self.authors[author].publisher,
            distro,
            version: &format!("{version}.0.0"),
            tree,
            source,
            includes,
        };
        let release = document.release();
        let bytes = encoded(&release);
        let reference = ReleaseRef { id: ReleaseId::of(&bytes), size: bytes.len() as u32 };
        for document in [&bytes, &tree_manifest, &source_manifest] {
            kept(self.library.add(document));
        }
        self.sizes.insert(reference.id, reference.size);
        self.read(reference);
        reference
    }

    /// Files a release's three lists as the store's own functions read them out of real bytes: the simulated disk
    /// answers from these lists, so that both drivers number chunks alike.
    fn read(&mut self, release: ReleaseRef) {
        let documents = kept(closure::closure(&self.library, release.id));
        let documents = documents
            .into_iter()
            .map(|(id, _)| ChunkRef { id: ChunkId::from(id.object()), len: self.sizes.get(&id).copied().unwrap_or(0) });
        let documents = documents.collect();
        let manifests = kept(closure::expand(&self.library, release, Depth::Manifests, PLATFORM)).chunks;
        let content = kept(closure::content_order(&self.library, release.id));
        self.file(release.id, [documents, manifests, content.unwrap_or_default()]);
    }

    fn file(&mut self, id: ReleaseId, lists: [Vec<ChunkRef>; 3]) {
        let numbers = [0, 1, 2].map(|i| lists[i].iter().map(|c| self.enter(*c)).collect());
        let [documents, manifests, content] = lists;
        let closure = Closure { documents, manifests, content, numbers };
        self.closures.insert(id, closure);
    }

    fn enter(&mut self, chunk: ChunkRef) -> ChunkNumber {
        let next = self.lengths.len() as ChunkNumber;
        let number = *self.numbers.entry(chunk.id).or_insert(next);
        if number == next {
            self.lengths.push(chunk.len);
        }
        number
    }

    /// How many chunks exist.
    pub fn chunks(&self) -> usize {
        self.lengths.len()
    }
    /// The number of a chunk, when it exists with this length.
    pub fn number(&self, chunk: &ChunkRef) -> Option<ChunkNumber> {
        let number = *self.numbers.get(&chunk.id)?;
        (self.length(number) == chunk.len).then_some(number)
    }
    /// Length of a chunk by number.
    pub fn length(&self, number: ChunkNumber) -> u32 {
        self.lengths.get(number as usize).copied().unwrap_or(0)
    }
    /// The closure of a release, when it exists.
    pub fn closure(&self, release: ReleaseId) -> Option<&Closure> {
        self.closures.get(&release)
    }
    /// The edition that lists a release.
    pub fn edition(&self, release: ReleaseId) -> Option<usize> {
        self.editions.iter().position(|e| e.release.id == release)
    }

    /// What the next stage of a fetch is about, for a disk that holds `held` and has whole what `whole` says: a
    /// document can only be read when it is whole.
    ///
    /// # Errors
    /// For people, when the pointer leads to nothing that exists here.
    pub fn expand(
        &self,
        release: ReleaseRef,
        depth: Depth,
        held: impl Fn(ChunkNumber) -> bool,
        whole: impl Fn(ChunkNumber) -> bool,
    ) -> Result<WantList, String> {
        let closure = self.closure(release.id).ok_or_else(|| format!("release {} does not exist", release.id))?;
        let list = |stage, chunks: &[ChunkRef], numbers: &[ChunkNumber]| {
            let mut have = Bitmap::empty(numbers.len());
            numbers.iter().enumerate().filter(|(_, n)| held(**n)).for_each(|(i, _)| have.set(i, true));
            WantList { stage, chunks: chunks.to_vec(), have, alike: Alike::default() }
        };
        let own = closure.documents.iter().zip(&closure.numbers[0]).next().ok_or("a closure without a document")?;
        if !whole(*own.1) {
            return Ok(list(Stage::Releases, &[*own.0], &[*own.1]));
        }
        let missing: Vec<(ChunkRef, ChunkNumber)> = closure
            .documents
            .iter()
            .copied()
            .zip(closure.numbers[0].iter().copied())
            .filter(|(_, n)| !whole(*n))
            .collect();
        if !missing.is_empty() {
            // Includes nest one deep in this corpus: with its own document, all of the closure's are known.
            let (chunks, numbers): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
            return Ok(list(Stage::Releases, &chunks, &numbers));
        }
        if depth == Depth::Manifests || !closure.numbers[1].iter().all(|n| whole(*n)) {
            return Ok(list(Stage::Manifests, &closure.manifests, &closure.numbers[1]));
        }
        Ok(list(Stage::Content, &closure.content, &closure.numbers[2]))
    }

    /// What of a release's content order is held; none when a document or manifest of it is not whole.
    pub fn survey(
        &self,
        release: ReleaseId,
        held: impl Fn(ChunkNumber) -> bool,
        whole: impl Fn(ChunkNumber) -> bool,
    ) -> Option<Bitmap> {
        let closure = self.closure(release)?;
        if !closure.numbers[0].iter().chain(&closure.numbers[1]).all(|n| whole(*n)) {
            return None;
        }
        let mut have = Bitmap::empty(closure.numbers[2].len());
        closure.numbers[2].iter().enumerate().filter(|(_, n)| held(**n)).for_each(|(i, _)| have.set(i, true));
        Some(have)
    }
}

/// What the store says of own documents in memory; it has no reason to refuse any.
fn kept<T>(answer: Result<T, StoreError>) -> T {
    answer.unwrap_or_else(|e| panic!("the corpus made a release that the store refuses: {e}"))
}

/// Own values always fit their limits; a corpus that does not is a mistake in a scenario's sizes.
pub(crate) fn encoded<T: Wire>(value: &T) -> Vec<u8> {
    codec::encode(value).unwrap_or_else(|e| panic!("the corpus is too large for the protocol: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_draws_the_same_corpus_and_versions_share_chunks() {
        let draw = |seed| Corpus::new(seed, 2.0, 2, 0.8, Time(0));
        let (one, same, other) = (draw(7), draw(7), draw(8));
        assert_eq!(one.editions[1].listing, same.editions[1].listing);
        assert_ne!(one.editions[1].listing, other.editions[1].listing);
        let content = |i: usize| -> BTreeSet<ChunkId> {
            one.closure(one.editions[i].release.id)
                .map(|c| c.content.iter().map(|c| c.id).collect())
                .unwrap_or_default()
        };
        let kept = content(0).intersection(&content(1)).count() as f64 / content(1).len() as f64;
        assert!((0.6..0.95).contains(&kept), "{kept}");
    }

    #[test]
    fn a_fetch_climbs_from_the_document_to_the_content() {
        let corpus = Corpus::new(1, 1.0, 1, 0.0, Time(0));
        let release = corpus.editions[0].release;
        let mut held = BTreeSet::new();
        let mut stages = Vec::new();
        loop {
            let has = |n: ChunkNumber| held.contains(&n);
            let list = corpus.expand(release, Depth::Content, has, has).expect("a known release");
            if list.have.is_full() {
                break;
            }
            stages.push(list.stage);
            held.extend(list.chunks.iter().filter_map(|c| corpus.number(c)));
        }
        assert_eq!(stages, [Stage::Releases, Stage::Releases, Stage::Manifests, Stage::Content]);
    }
}
