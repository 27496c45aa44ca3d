//! Gossip of signed pointers, one topic for each publisher. Invariant: no message is passed on before the core judged
//! it, its id is the hash of its content, and what is not judged in time is forgotten, never passed on.
//!
//! Messages carry no author of their own: what they hold is signed by its publisher, and a second signature by whoever
//! happened to send it first would only tell who follows whom.

mod measured;

use super::NetError;
use libp2p::{
    PeerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId},
};
pub(crate) use measured::{Heard, Measured};
use softservice_protocol::{id::PublisherId, io::Verdict, limits};
use std::{collections::BTreeMap, time::Duration};

/// Room for the topic and the envelope of the gossip protocol itself around a message, and for lists of 500 ids.
const OVERHEAD: usize = 16 << 10;
/// Announcements are repeated within minutes by latecomers; for so long the same bytes are not looked at again.
const REMEMBER: Duration = Duration::from_secs(300);
/// Messages that wait for a verdict. The core judges within a turn, or when what it accepts is durable; more waiting means it is flooded.
/// A verdict that a slow disk keeps for longer than the library keeps messages passes nothing on: the exchange of heads does then.
const UNJUDGED: usize = 1024;

/// The topic of a publisher.
pub(crate) fn topic(publisher: PublisherId) -> IdentTopic {
    IdentTopic::new(format!("softservice/1/{publisher}"))
}

/// Gossipsub with our rules.
pub(crate) fn behaviour() -> Result<Measured, NetError> {
    let stack = |e: &dyn std::fmt::Display| NetError::Stack(format!("gossip: {e}"));
    let config = gossipsub::ConfigBuilder::default()
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .message_id_fn(|message: &gossipsub::Message| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(message.topic.as_str().as_bytes()).update(&[0]).update(&message.data);
            MessageId::from(hasher.finalize().as_bytes().to_vec())
        })
        .max_transmit_size(limits::GOSSIP_BYTES + OVERHEAD)
        .duplicate_cache_time(REMEMBER)
        .build()
        .map_err(|e| stack(&e))?;
    let mut behaviour =
        gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config).map_err(|e| stack(&e))?;
    let params = gossipsub::PeerScoreParams {
        // A home or an office is one address; only a crowd behind one counts against it.
        ip_colocation_factor_threshold: 64.0,
        // The default keeps everybody who ever said a word for an hour; what a peer did is the core's to remember.
        retain_score: REMEMBER,
        ..Default::default()
    };
    behaviour.with_peer_score(params, gossipsub::PeerScoreThresholds::default()).map_err(|e| stack(&e))?;
    Ok(Measured::new(behaviour))
}

/// How neighbours are scored in a topic: feeds are silent for days, so silence costs nothing and only lies count.
pub(crate) fn score() -> gossipsub::TopicScoreParams {
    gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_cap: 10.0,
        time_in_mesh_quantum: Duration::from_secs(60),
        first_message_deliveries_cap: 10.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // The first lie costs the neighbour our gossip, the second its voice.
        invalid_message_deliveries_weight: -40.0,
        invalid_message_deliveries_decay: 0.9,
        ..Default::default()
    }
}

/// Messages that wait for the core's verdict, by the number that the core knows them by.
#[derive(Debug, Default)]
pub(crate) struct Unjudged {
    next: u64,
    waiting: BTreeMap<u64, (MessageId, PeerId)>,
}

impl Unjudged {
    /// Notes a message. Also gives the oldest one when there are too many: it is to be ignored.
    pub(crate) fn note(&mut self, id: MessageId, from: PeerId) -> (u64, Option<(MessageId, PeerId)>) {
        self.next += 1;
        self.waiting.insert(self.next, (id, from));
        let oldest = if self.waiting.len() > UNJUDGED { self.waiting.pop_first().map(|(_, m)| m) } else { None };
        (self.next, oldest)
    }
    /// Takes the message that was judged, if it still waits.
    pub(crate) fn take(&mut self, number: u64) -> Option<(MessageId, PeerId)> {
        self.waiting.remove(&number)
    }
}

/// The verdict in the library's words.
pub(crate) fn acceptance(verdict: Verdict) -> MessageAcceptance {
    match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Ignore => MessageAcceptance::Ignore,
        Verdict::Reject => MessageAcceptance::Reject,
    }
}
