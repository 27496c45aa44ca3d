//! The distributed hash table: who follows a publisher. Invariant: only publishers are announced, never single files,
//! and strangers can fill neither the table nor the room that our own announcements need.

use super::{CONTROL, names::peer_of};
use libp2p::{
    Multiaddr, PeerId, identify,
    kad::{self, store::RecordStore as _},
};
use softservice_protocol::id::{FeedId, PublisherId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

type Table = kad::Behaviour<kad::store::MemoryStore>;

/// Keys that one stranger may announce here.
const KEYS_PER_PEER: usize = 32;
/// Keys of strangers in all: half of the store, so that our own always fit.
const KEYS: usize = 512;
/// After so long the count of strangers' keys starts anew, as the records have expired by then.
const COUNTED_FOR: Duration = Duration::from_secs(2 * 3600);
/// Addresses taken from one introduction: a machine has a few, a liar a thousand.
const ADDRESSES: usize = 8;
/// Providers taken from one answer.
const PROVIDERS: usize = 20;

/// What is counted about the table.
#[derive(Debug)]
pub(crate) struct Discovery {
    me: PeerId,
    strangers: BTreeMap<PeerId, BTreeSet<Vec<u8>>>,
    counted_since: Option<Instant>,
    followed: BTreeSet<PublisherId>,
}

fn key(publisher: PublisherId) -> kad::RecordKey {
    kad::RecordKey::new(&FeedId::main(publisher).0)
}

impl Discovery {
    pub(crate) fn new(me: PeerId) -> Self {
        Self { me, strangers: BTreeMap::new(), counted_since: None, followed: BTreeSet::new() }
    }

    /// Looks again for others who follow what we follow.
    pub(crate) fn look_again(&self, table: &mut Table) {
        for publisher in &self.followed {
            table.get_providers(key(*publisher));
        }
    }

    /// Announces that we follow a publisher and looks for others who do, or stops announcing it.
    pub(crate) fn topic(&mut self, table: &mut Table, publisher: PublisherId, join: bool) {
        if join {
            self.followed.insert(publisher);
            self.announce(table, publisher);
        } else {
            self.followed.remove(&publisher);
            table.stop_providing(&key(publisher));
        }
    }

    fn announce(&self, table: &mut Table, publisher: PublisherId) {
        if let Err(e) = table.start_providing(key(publisher)) {
            tracing::warn!(%publisher, "not announced: {e}");
        }
        table.get_providers(key(publisher));
    }

    /// Takes a peer that speaks our protocol into the table, with the addresses where it listens.
    pub(crate) fn introduced(&mut self, table: &mut Table, id: PeerId, info: identify::Info) {
        if !info.protocols.contains(&CONTROL) {
            return;
        }
        let alone = table.kbuckets().all(|bucket| bucket.is_empty());
        for address in info.listen_addrs.into_iter().filter(usable).take(ADDRESSES) {
            table.add_address(&id, address);
        }
        if alone {
            // What was announced to an empty table reached nobody.
            for publisher in self.followed.clone() {
                self.announce(table, publisher);
            }
        }
    }

    /// Takes an event; gives addresses of peers that follow what we follow, by name: the table knows where they are.
    pub(crate) fn heard(&mut self, table: &mut Table, event: kad::Event) -> Vec<String> {
        match event {
            kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })),
                ..
            } => {
                let known = providers.into_iter().filter(|id| *id != self.me && peer_of(id).is_some());
                known.take(PROVIDERS).map(|id| format!("/p2p/{id}")).collect()
            }
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(record) } } => {
                self.provided(table, record);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A stranger announces itself: kept within its share.
    fn provided(&mut self, table: &mut Table, record: kad::ProviderRecord) {
        if self.counted_since.is_none_or(|since| since.elapsed() > COUNTED_FOR) {
            self.counted_since = Some(Instant::now());
            self.strangers.clear();
        }
        let total: usize = self.strangers.values().map(BTreeSet::len).sum();
        let bytes = record.key.to_vec();
        let held = self.strangers.get(&record.provider);
        let known = held.is_some_and(|keys| keys.contains(&bytes));
        let full = total >= KEYS || held.is_some_and(|keys| keys.len() >= KEYS_PER_PEER);
        if bytes.len() != 32 || (full && !known) {
            return;
        }
        self.strangers.entry(record.provider).or_default().insert(bytes);
        if let Err(e) = table.store_mut().add_provider(record) {
            tracing::debug!("provider record refused: {e}");
        }
    }
}

/// An address that may be of use to somebody: it names a real place.
fn usable(address: &Multiaddr) -> bool {
    use libp2p::multiaddr::Protocol;
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_multicast(),
        _ => false,
    }
}
