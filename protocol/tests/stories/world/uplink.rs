//! Content on its way: a peer sends one span after the other, each asker in turn, as fast as its rate allows. Invariant:
//! every request is answered exactly once, unless its asker has started anew.

use super::{Happening, World, bitmap};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    io::{Delivery, Request},
    time::Time,
};
use std::collections::VecDeque;

/// How a peer answers requests for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Sends other bytes from the second chunk on.
    Lies,
    /// Says that it has everything, and has nothing.
    Boasts,
    /// Never answers; the asker's driver gives up at the deadline.
    Hangs,
}

/// What a peer still has to send.
#[derive(Default)]
pub(crate) struct Uplink {
    /// Requests, by asker, served in turn.
    orders: VecDeque<Order>,
    pub(super) busy: bool,
}

pub(super) struct Order {
    pub(super) asker: &'static str,
    pub(super) life: u32,
    pub(super) request: Request,
    pub(super) chunks: Vec<ChunkRef>,
}

impl World {
    pub(super) fn serve(&mut self, name: &'static str, order: Order, deadline: Time) {
        let Order { asker, life, request, chunks } = order;
        if self.nodes[asker].life != life {
            return;
        }
        let now = self.now;
        let from = self.peer(name);
        let node = self.node(name);
        let none = Bitmap::empty(chunks.len());
        let (at, outcome) = match node.manner {
            Manner::Honest => {
                node.uplink.orders.push_back(Order { asker, life, request, chunks });
                return self.send_next(name);
            }
            Manner::Hangs => (deadline, Delivery::Broke { held: none }),
            Manner::Boasts => (Time(now.0 + 5), Delivery::Came { held: none, bytes: 0, wire: 0 }),
            Manner::Lies => {
                let held = bitmap((0..chunks.len()).map(|i| i == 0 && chunks.len() > 1));
                (Time(now.0 + 5), Delivery::Lied { held, why: "a chunk is not what its id says".into() })
            }
        };
        self.plan(at, asker, Happening::Answer { from, request, chunks, outcome });
    }

    /// Puts the next span on the wire, of another asker than the last one if there is one.
    pub(super) fn send_next(&mut self, name: &'static str) {
        let (now, from) = (self.now, self.peer(name));
        while !self.nodes[name].uplink.busy {
            let Some(Order { asker, life, request, chunks }) = self.node(name).uplink.orders.pop_front() else {
                return;
            };
            // The asker's other requests go behind everybody else's first ones.
            let rest = self.node(name).uplink.orders.iter().filter(|o| o.asker != asker).count();
            if rest > 0 {
                self.node(name).uplink.orders.make_contiguous().sort_by_key(|o| o.asker == asker);
            }
            if self.nodes[asker].life != life {
                continue;
            }
            let gone = !self.nodes[name].links.contains(asker) || self.nodes[asker].cancelled.contains(&request);
            let node = self.node(name);
            let mut at = Time(now.0 + 5);
            let outcome = if gone {
                Delivery::Broke { held: Bitmap::empty(chunks.len()) }
            } else {
                let held = bitmap(chunks.iter().map(|c| node.chunks.contains(&c.id)));
                let bytes: u64 = held.ones().map(|i| u64::from(chunks[i].len)).sum();
                let free = Time(now.0 + bytes * 1000 / node.rate);
                node.sent += bytes;
                node.uplink.busy = true;
                at = Time(free.0 + 5);
                self.plan(free, name, Happening::Free);
                Delivery::Came { held, bytes, wire: bytes }
            };
            self.plan(at, asker, Happening::Answer { from, request, chunks, outcome });
        }
    }
}
