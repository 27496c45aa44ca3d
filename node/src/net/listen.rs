//! Where a node listens, and what it tells others of that. Invariant: a swarm that came out of [`everywhere`] listens on
//! every address that was asked for.

use super::{NetError, behaviour::Behaviour, names::with_peer};
use futures::{FutureExt as _, StreamExt as _};
use libp2p::{Multiaddr, Swarm, multiaddr::Protocol, swarm::SwarmEvent};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// How long listening may take before a start fails.
const LISTENING: Duration = Duration::from_secs(10);

/// Listens on every address and waits until each listener has told where it really is.
pub(super) async fn everywhere(swarm: &mut Swarm<Behaviour>, listen: &[String]) -> Result<(), NetError> {
    let mut waiting = HashMap::new();
    for text in listen {
        let bad = |why: String| NetError::Address { address: text.clone(), why };
        let address: Multiaddr = text.parse().map_err(|e: libp2p::multiaddr::Error| bad(e.to_string()))?;
        let failed = |why: String| NetError::Listen { address: text.clone(), why };
        let listener = swarm.listen_on(address).map_err(|e| failed(words(&e)))?;
        waiting.insert(listener, text.clone());
    }
    let all = async {
        loop {
            // Once every listener has an address, take the others that are known already, but wait for none.
            let event = if waiting.is_empty() { swarm.next().now_or_never().flatten() } else { swarm.next().await };
            match event {
                None => return Ok(()),
                Some(SwarmEvent::NewListenAddr { listener_id, .. }) => {
                    waiting.remove(&listener_id);
                }
                Some(SwarmEvent::ListenerClosed { listener_id, reason, .. }) => {
                    if let Some(address) = waiting.remove(&listener_id) {
                        let why = reason.err().map_or_else(|| "the listener closed".into(), |e| words(&e));
                        return Err(NetError::Listen { address, why });
                    }
                }
                Some(_) => {}
            }
        }
    };
    match tokio::time::timeout(LISTENING, all).await {
        Ok(result) => result,
        Err(_) => Err(NetError::Listen { address: listen.join(", "), why: "no address came up in time".into() }),
    }
}

/// An error with its causes: those of transports say nothing themselves.
fn words(error: &dyn std::error::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |e| e.source()) {
        let words = cause.to_string();
        if !words.is_empty() && said.iter().all(|s| !s.contains(&words)) {
            said.push(words);
        }
    }
    said.join(": ")
}

/// Where the swarm can be reached, with `/p2p/`. What others can reach comes first; loopback is for tests and for two
/// nodes on one machine.
pub(super) fn reachable_first(swarm: &Swarm<Behaviour>) -> Vec<String> {
    let me = *swarm.local_peer_id();
    let mut all: Vec<&Multiaddr> = swarm.external_addresses().chain(swarm.listeners()).collect();
    all.sort_by_key(|a| is_loopback(a));
    let mut seen = BTreeSet::new();
    all.into_iter().map(|a| with_peer(a, me)).filter(|a| seen.insert(a.clone())).collect()
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::TransportError;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_failure_to_listen_says_why() {
        let taken = TransportError::Other(Error::new(ErrorKind::AddrInUse, "address taken"));
        assert_eq!(words(&taken), "address taken");
        let nested = Error::other(TransportError::Other(Error::other("no such interface")));
        assert_eq!(words(&nested), "no such interface");
    }
}
