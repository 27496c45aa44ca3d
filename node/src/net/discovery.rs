//! The distributed hash table: who follows a publisher. Invariant: only publishers are announced, never single files,
//! strangers can fill neither the table nor the room that our own announcements need, and one network group can fill neither
//! for others. A peer's group is that of the address that it really came from, never of one that it claims.

use super::{CONTROL, names::peer_of};
use libp2p::{
    Multiaddr, PeerId, identify,
    kad::{self, store::RecordStore as _},
};
use softservice_protocol::{
    id::{FeedId, PublisherId},
    machine::peers::group::NetworkGroup,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

type Table = kad::Behaviour<kad::store::MemoryStore>;

/// Keys that one stranger may announce here.
const KEYS_PER_PEER: usize = 32;
/// Keys that peers of one network group may announce here.
const KEYS_PER_GROUP: usize = 128;
/// Members of the table that may be of one network of the internet, and how many of them in one bucket. Go's table has
/// two and three; but its network is the world, and ours may be one provider's.
const MEMBERS_PER_GROUP: usize = 8;
/// See [`MEMBERS_PER_GROUP`].
const MEMBERS_PER_BUCKET: usize = 3;
/// The same of one address of a LAN: as many as a bucket has, for a village of nodes on one machine.
const MEMBERS_PER_NEIGHBOUR: usize = 20;
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
    strangers: BTreeMap<PeerId, (NetworkGroup, BTreeSet<Vec<u8>>)>,
    /// Who is connected, and whence.
    here: BTreeMap<PeerId, NetworkGroup>,
    /// Where members of the table came from.
    members: BTreeMap<PeerId, NetworkGroup>,
    counted_since: Option<Instant>,
    followed: BTreeSet<PublisherId>,
}

fn key(publisher: PublisherId) -> kad::RecordKey {
    kad::RecordKey::new(&FeedId::main(publisher).0)
}

impl Discovery {
    pub(crate) fn new(me: PeerId) -> Self {
        Self {
            me,
            strangers: BTreeMap::new(),
            here: BTreeMap::new(),
            members: BTreeMap::new(),
            counted_since: None,
            followed: BTreeSet::new(),
        }
    }

    /// A peer is connected, from this address.
    pub(crate) fn arrived(&mut self, id: PeerId, from: &str) {
        self.here.insert(id, NetworkGroup::of(from));
    }
    /// It is gone. It stays in the table, but gives way to its neighbours.
    pub(crate) fn left(&mut self, id: PeerId) {
        self.here.remove(&id);
    }

    /// Whether the table may take this peer as far as its network goes. Who is not here any more gives its place up.
    fn has_room(&mut self, table: &mut Table, id: PeerId, group: NetworkGroup) -> bool {
        let mut buckets: BTreeMap<PeerId, Option<u32>> = BTreeMap::new();
        for bucket in table.kbuckets() {
            let distance = bucket.range().0.ilog2();
            buckets.extend(bucket.iter().map(|entry| (*entry.node.key.preimage(), distance)));
        }
        let here = &self.here;
        self.members.retain(|member, _| buckets.contains_key(member) || here.contains_key(member));
        if buckets.contains_key(&id) {
            return true;
        }
        let own = kad::KBucketKey::from(id).distance(&kad::KBucketKey::from(self.me)).ilog2();
        let (most, most_in_bucket) = match group.is_public() {
            true => (MEMBERS_PER_GROUP, MEMBERS_PER_BUCKET),
            false => (MEMBERS_PER_NEIGHBOUR, MEMBERS_PER_NEIGHBOUR),
        };
        loop {
            let of_group = self.members.iter().filter(|(_, g)| **g == group).map(|(member, _)| *member);
            let of_group: Vec<PeerId> = of_group.collect();
            let in_bucket: Vec<PeerId> =
                of_group.iter().filter(|m| buckets.get(m).is_some_and(|b| *b == own)).copied().collect();
            let crowd = if in_bucket.len() >= most_in_bucket {
                in_bucket
            } else if of_group.len() >= most {
                of_group
            } else {
                return true;
            };
            let Some(gone) = crowd.into_iter().find(|member| !self.here.contains_key(member)) else { return false };
            table.remove_peer(&gone);
            self.members.remove(&gone);
        }
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
        let Some(group) = self.here.get(&id).copied() else { return };
        if !self.has_room(table, id, group) {
            tracing::debug!(%id, "its network has its share of the hash table");
            return;
        }
        let alone = table.kbuckets().all(|bucket| bucket.is_empty());
        // Of a LAN only what somebody in it says: a stranger would have us, and whoever asks us, knock at our neighbours' doors.
        let its = |address: &Multiaddr| usable(address) && group.may_send_to(NetworkGroup::of(&address.to_string()));
        for address in info.listen_addrs.into_iter().filter(its).take(ADDRESSES) {
            if table.add_address(&id, address) != kad::RoutingUpdate::Failed {
                self.members.insert(id, group);
            }
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

    /// Whether this one, its group or all strangers together have announced as much as they may.
    fn is_full(&self, provider: PeerId, group: NetworkGroup) -> bool {
        let total: usize = self.strangers.values().map(|(_, keys)| keys.len()).sum();
        let of_group = self.strangers.values().filter(|(g, _)| *g == group).map(|(_, keys)| keys.len()).sum::<usize>();
        let own = self.strangers.get(&provider).map_or(0, |(_, keys)| keys.len());
        total >= KEYS || of_group >= KEYS_PER_GROUP || own >= KEYS_PER_PEER
    }

    /// A stranger announces itself: kept within its share.
    fn provided(&mut self, table: &mut Table, record: kad::ProviderRecord) {
        if self.counted_since.is_none_or(|since| since.elapsed() > COUNTED_FOR) {
            self.counted_since = Some(Instant::now());
            self.strangers.clear();
        }
        let group = self.here.get(&record.provider).copied().unwrap_or(NetworkGroup::Unknown);
        let bytes = record.key.to_vec();
        let known = self.strangers.get(&record.provider).is_some_and(|(_, keys)| keys.contains(&bytes));
        if bytes.len() != 32 {
            return;
        }
        if !known && self.is_full(record.provider, group) {
            // Who left gives its share back before anybody is refused.
            let here = &self.here;
            let mut left = false;
            self.strangers.retain(|id, (_, keys)| {
                let stays = here.contains_key(id);
                if !stays {
                    left = true;
                    keys.iter().for_each(|key| table.store_mut().remove_provider(&kad::RecordKey::new(key), id));
                }
                stays
            });
            if !left || self.is_full(record.provider, group) {
                return;
            }
        }
        self.strangers.entry(record.provider).or_insert_with(|| (group, BTreeSet::new())).1.insert(bytes);
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

#[cfg(test)]
mod tests {
    use super::{super::behaviour::table, *};
    use libp2p::identity::Keypair;

    fn introduce(discovery: &mut Discovery, table: &mut Table, from: &str) -> PeerId {
        let key = Keypair::generate_ed25519().public();
        // What it claims is of another network each time.
        let claim = format!("/ip4/{}.1.1.1/tcp/4001", key.to_peer_id().to_bytes()[10] % 100 + 11);
        introduce_as(discovery, table, key, from, &[&claim])
    }
    fn introduce_as(
        discovery: &mut Discovery,
        table: &mut Table,
        key: libp2p::identity::PublicKey,
        from: &str,
        claims: &[&str],
    ) -> PeerId {
        let (id, here) = (key.to_peer_id(), format!("/ip4/{from}/tcp/4001"));
        let info = identify::Info {
            public_key: key,
            protocol_version: "/softservice/1".into(),
            agent_version: String::new(),
            listen_addrs: claims.iter().map(|claim| claim.parse().unwrap()).collect(),
            protocols: vec![CONTROL],
            observed_addr: here.parse().unwrap(),
            signed_peer_record: None,
        };
        discovery.arrived(id, &here);
        discovery.introduced(table, id, info);
        id
    }
    fn members(table: &mut Table) -> BTreeSet<PeerId> {
        table.kbuckets().flat_map(|b| b.iter().map(|e| *e.node.key.preimage()).collect::<Vec<_>>()).collect()
    }

    #[tokio::test]
    async fn one_network_has_its_share_of_the_table_whatever_it_claims_and_who_left_makes_room() {
        let me = Keypair::generate_ed25519().public().to_peer_id();
        let (mut table, mut discovery) = (table(me), Discovery::new(me));
        let rented: Vec<PeerId> =
            (0..200).map(|n| introduce(&mut discovery, &mut table, &format!("9.8.7.{n}"))).collect();
        let taken = members(&mut table);
        assert!((3..=MEMBERS_PER_GROUP).contains(&taken.len()), "{}", taken.len());
        for n in 0..20 {
            let other = introduce(&mut discovery, &mut table, &format!("{}.1.1.1", 20 + n));
            assert!(members(&mut table).contains(&other) || n > 15, "there is room for others");
        }
        // All of them leave: whoever comes next from there takes the place of one of those.
        rented.iter().for_each(|id| discovery.left(*id));
        let living = introduce(&mut discovery, &mut table, "9.8.200.1");
        let now = members(&mut table);
        assert!(now.contains(&living), "the gone do not lock the living out");
        assert!(rented.iter().filter(|id| now.contains(id)).count() < taken.len());
    }

    #[tokio::test]
    async fn no_stranger_puts_our_lan_into_the_table() {
        let me = Keypair::generate_ed25519().public().to_peer_id();
        let claims = ["/ip4/9.1.1.1/tcp/4001", "/ip4/192.168.1.1/tcp/22", "/ip4/127.0.0.1/tcp/6379"];
        for (from, taken) in [("9.8.7.6", 1), ("192.168.1.7", 2), ("127.0.0.1", 3)] {
            let (mut table, mut discovery) = (table(me), Discovery::new(me));
            introduce_as(&mut discovery, &mut table, Keypair::generate_ed25519().public(), from, &claims);
            let addresses: usize =
                table.kbuckets().flat_map(|b| b.iter().map(|e| e.node.value.len()).collect::<Vec<_>>()).sum();
            assert_eq!(addresses, taken, "{from}");
        }
    }

    #[tokio::test]
    async fn a_village_on_one_machine_is_taken_in() {
        let me = Keypair::generate_ed25519().public().to_peer_id();
        let (mut table, mut discovery) = (table(me), Discovery::new(me));
        for _ in 0..16 {
            introduce(&mut discovery, &mut table, "127.0.0.1");
        }
        assert_eq!(members(&mut table).len(), 16);
    }

    #[tokio::test]
    async fn one_network_announces_so_many_keys_and_no_more() {
        let me = Keypair::generate_ed25519().public().to_peer_id();
        let (mut table, mut discovery) = (table(me), Discovery::new(me));
        let mut announce = |from: &str, n: u8| {
            let id = Keypair::generate_ed25519().public().to_peer_id();
            discovery.arrived(id, &format!("/ip4/{from}/tcp/1"));
            for key in 0..40 {
                let key = kad::RecordKey::new(&blake3::hash(&[n, key]).as_bytes());
                discovery.provided(&mut table, kad::ProviderRecord::new(key, id, Vec::new()));
            }
        };
        (0..40).for_each(|n| announce(&format!("9.8.7.{n}"), n));
        announce("20.1.1.1", 100);
        assert_eq!(table.store_mut().provided().count(), 0, "what others provide is not ours");
        let kept = |n: u8| {
            (0..40)
                .filter(|key| {
                    let key = kad::RecordKey::new(&blake3::hash(&[n, *key]).as_bytes());
                    !table.store_mut().providers(&key).is_empty()
                })
                .count()
        };
        let mut kept = kept;
        let of_one: usize = (0..40).map(&mut kept).sum();
        assert_eq!((of_one, kept(100)), (KEYS_PER_GROUP, KEYS_PER_PEER));
    }

    #[tokio::test]
    async fn who_left_gives_its_share_of_announcements_back() {
        let me = Keypair::generate_ed25519().public().to_peer_id();
        let (mut table, mut discovery) = (table(me), Discovery::new(me));
        let key = |n: u8, k: u8| kad::RecordKey::new(&blake3::hash(&[n, k]).as_bytes());
        let mut announce = |n: u8| {
            let id = Keypair::generate_ed25519().public().to_peer_id();
            discovery.arrived(id, &format!("/ip4/9.8.7.{n}/tcp/1"));
            for k in 0..KEYS_PER_PEER as u8 {
                discovery.provided(&mut table, kad::ProviderRecord::new(key(n, k), id, Vec::new()));
            }
            let held =
                (0..KEYS_PER_PEER as u8).filter(|k| !table.store_mut().providers(&key(n, *k)).is_empty()).count();
            discovery.left(id);
            held
        };
        for n in 0..100 {
            assert_eq!(announce(n), KEYS_PER_PEER, "number {n}, after all others left");
        }
        let kept = (0..100).filter(|n| !table.store_mut().providers(&key(*n, 0)).is_empty()).count();
        assert!(kept <= KEYS_PER_GROUP / KEYS_PER_PEER, "the records of {kept} went with them");
    }
}
