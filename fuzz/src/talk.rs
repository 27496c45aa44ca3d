//! A core that follows Anna, among peers who say whatever they like. Invariant: whatever they say, what it believes of
//! Anna is what she signed; nothing that it sends is longer than a peer would take.

use crate::{
    cast::{NOW, Publisher, listing},
    script::Script,
    specimens,
};
use softservice_protocol::{
    codec,
    feed::{Action, Head},
    id::{Digest, Peer},
    io::{Input, Output, Verdict},
    limits,
    machine::{Core, Settings},
    message::{Bytes, Message},
    sign::Envelope,
    ticket::Ticket,
    time::{Span, Time},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// What Anna said, also where she spoke twice, and good messages that carry it.
struct Said {
    anna: Publisher,
    heads: BTreeSet<Digest>,
    messages: Vec<Vec<u8>>,
    gossip: Vec<Vec<u8>>,
}

static SAID: LazyLock<Said> = LazyLock::new(|| {
    let anna = specimens::anna();
    let branches: Vec<Envelope> =
        [2, 3].map(|id| anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.0", id))))).into();
    let entries: Vec<Envelope> = anna.entries.iter().chain(&branches).cloned().collect();
    let bytes = |envelope: &Envelope| Bytes(codec::encode(envelope).expect("short"));
    let statement = anna.fresh(&anna.statement());
    let page = |roots: bool, entry: &Envelope| Message::Feed {
        publisher: anna.id(),
        roots: roots.then(|| bytes(&anna.first)).into_iter().collect(),
        snapshot: None,
        entries: vec![bytes(entry)],
        fresh: None,
        more: false,
    };
    let mut messages = specimens::messages();
    messages.extend(entries.iter().flat_map(|entry| [page(true, entry), page(false, entry)]));
    let messages = messages.iter().map(|message| codec::encode(message).expect("short")).collect();
    let others = [&anna.first, &statement].into_iter().chain(&entries);
    let mut gossip: Vec<Vec<u8>> = others.map(|envelope| bytes(envelope).0).collect();
    gossip.push(codec::encode(&specimens::equivocation()).expect("short"));
    let heads = entries.iter().map(Envelope::digest).chain([Head::START.hash]).collect();
    Said { heads, messages, gossip, anna }
});

struct Scene {
    core: Core,
    now: Time,
    gossiped: u64,
    /// The highest place that was believed.
    head: Head,
    /// What was told by gossip and waits for a verdict.
    told: BTreeMap<u64, Vec<u8>>,
}

impl Scene {
    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.core.handle(self.now, input) {
                match output {
                    Output::Keep { token, .. } => inputs.push(Input::Durable(token)),
                    Output::Send { bytes, .. } => assert!(bytes.len() <= limits::MESSAGE_BYTES),
                    Output::Gossip { bytes, .. } => assert!(bytes.len() <= limits::GOSSIP_BYTES),
                    Output::Judge { gossip, verdict, .. } => {
                        let told = self.told.remove(&gossip).expect("one verdict a message");
                        let hers = verdict != Verdict::Accept || SAID.gossip.contains(&told);
                        assert!(hers, "passed on what Anna never said");
                    }
                    Output::Sign { .. } => panic!("it has no keys"),
                    _ => {}
                }
            }
        }
        let view = self.core.publisher(SAID.anna.id()).expect("it follows her");
        assert!(view.root_version <= 1, "Anna has one root document");
        assert!(SAID.heads.contains(&view.feed.head.hash), "believes what Anna never said");
        assert!(view.feed.head.at >= self.head.at, "the head went back");
        self.head = view.feed.head;
    }
    fn hear(&mut self, peer: u8, by_gossip: bool, bytes: Vec<u8>) {
        let peer = Peer([peer; 32]);
        if by_gossip {
            self.gossiped += 1;
            self.told.insert(self.gossiped, bytes.clone());
            self.give(Input::Gossiped { peer, gossip: self.gossiped, bytes });
        } else {
            self.give(Input::Received { peer, bytes });
        }
    }
}

/// Peers say these bytes, and good messages whole or changed; time passes; they come and go.
pub fn talk(bytes: &[u8]) {
    let mut script = Script(bytes);
    let settings = Settings { me: Peer([1; 32]), seed: 1, outbound: 8, built: Time(0) };
    let mut scene =
        Scene { core: Core::new(settings), now: NOW, gossiped: 0, head: Head::START, told: BTreeMap::new() };
    let (anna, floor) = (&SAID.anna, Head::START);
    let root = (1, anna.trusted.digest);
    let ticket = Ticket { publisher: anna.id(), distro: None, root, floor, addresses: vec![], conflict: None, expires: None };
    scene.give(Input::Follow { ticket });
    for peer in 2..5 {
        let address = format!("/ip4/10.0.0.{peer}/tcp/4001");
        scene.give(Input::Connected { peer: Peer([peer; 32]), address, outbound: peer == 2 });
    }
    while let Some(order) = script.byte() {
        let (peer, by_gossip) = (2 + order / 64 % 3, order & 1 == 1);
        let good = if by_gossip { &SAID.gossip } else { &SAID.messages };
        match order >> 1 & 7 {
            0 | 1 => {
                let Some(piece) = script.piece() else { return };
                scene.hear(peer, by_gossip, piece.to_vec());
            }
            2 | 3 => {
                let Some(which) = script.byte() else { return };
                scene.hear(peer, by_gossip, good[usize::from(which) % good.len()].clone());
            }
            4 | 5 => {
                let (Some(which), Some(at), Some(with)) = (script.byte(), script.number(), script.byte()) else {
                    return;
                };
                let mut changed = good[usize::from(which) % good.len()].clone();
                let at = usize::from(at) % changed.len();
                changed[at] ^= with;
                scene.hear(peer, by_gossip, changed);
            }
            6 => {
                let Some(minutes) = script.number() else { return };
                scene.now = scene.now + Span::seconds(60 * u64::from(minutes));
                scene.give(Input::Woke);
            }
            _ => {
                let peer = Peer([peer; 32]);
                scene.give(Input::Disconnected { peer });
                scene.give(Input::Connected { peer, address: "/ip4/10.9.0.1/tcp/4001".into(), outbound: by_gossip });
            }
        }
    }
}
