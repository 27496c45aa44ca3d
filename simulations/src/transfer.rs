//! Spans on their way: asked, queued at the uplink, sent, verified, written. Invariant: every request is answered by
//! exactly one Delivered, unless the asker's life ends first; what a lie carries never reaches a disk.
//!
//! An uplink serves one span at a time and its peers in turn; a downlink takes spans one after the other. At spans of
//! up to 1 MiB this is fair sharing as seen over seconds, and costs two events a span where a fluid model would
//! recompute every rate at every change.

use crate::{
    actors::Nature,
    corpus::ChunkNumber,
    world::{Happening, World},
};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    id::Peer,
    io::{Delivery, Input, Request, Spent},
    limits,
};

/// Bytes of a span request: header and one reference for each chunk; of its answer: header and bitmap.
const REQUEST_BYTES: u64 = 60;
const REFERENCE_BYTES: u64 = 36;

/// One span request.
#[derive(Debug)]
pub struct Transfer {
    /// Who asked, and in which life.
    pub client: (usize, u32),
    /// Who was asked.
    pub server: usize,
    /// The asker's number.
    pub request: Request,
    /// What was asked, by number where it exists.
    chunks: Vec<(Option<ChunkNumber>, u32)>,
    /// What the one asked has of it.
    held: Bitmap,
    /// The answer carries wrong bytes.
    lie: bool,
    /// When its bytes began to flow and will have come.
    flow: Option<(u64, u64)>,
}

impl Transfer {
    fn held_bytes(&self) -> u64 {
        self.held.ones().filter_map(|i| self.chunks.get(i)).map(|(_, len)| u64::from(*len)).sum()
    }
    /// Chunks that came whole when a share of the bytes has come.
    fn came(&self, share: f64) -> Bitmap {
        let mut left = self.held_bytes() as f64 * share;
        let mut came = Bitmap::empty(self.chunks.len());
        for i in self.held.ones() {
            left -= self.chunks.get(i).map_or(0.0, |(_, len)| f64::from(*len));
            if left < 0.0 {
                break;
            }
            came.set(i, true);
        }
        came
    }
    fn numbers(&self, of: &Bitmap) -> Vec<ChunkNumber> {
        of.ones().filter_map(|i| self.chunks.get(i)?.0).collect()
    }
}

impl World {
    /// A core asks a peer for chunks.
    pub fn ask_span(&mut self, node: usize, peer: Peer, request: Request, chunks: &[ChunkRef], deadline: u64) {
        let bytes: u64 = chunks.iter().map(|c| u64::from(c.len)).sum();
        if chunks.is_empty() || chunks.len() > limits::SPAN_CHUNKS || bytes > limits::SPAN_BYTES as u64 {
            self.violation(node, format!("span request of {} chunks and {bytes} bytes", chunks.len()));
        }
        let server = self.by_peer.get(&peer).copied().filter(|s| self.network.link(node, *s).is_some());
        let Some(server) = server else {
            let outcome = Delivery::Broke { held: Bitmap::empty(chunks.len()) };
            self.input_after(0, node, Input::Delivered { peer, request, outcome, spent: Spent::default() });
            return;
        };
        let pending = self.nodes[node].open.iter().filter(|id| self.transfers[id].server == server).count();
        if pending >= limits::PENDING_SPANS {
            self.violation(node, format!("more than {} span requests open at one peer", limits::PENDING_SPANS));
        }
        self.tally.spans += 1;
        let bytes = REQUEST_BYTES + REFERENCE_BYTES * chunks.len() as u64;
        self.tally.request_bytes += bytes + chunks.len().div_ceil(8) as u64;
        self.transfers_made += 1;
        let id = self.transfers_made;
        let transfer = Transfer {
            client: (node, self.nodes[node].life),
            server,
            request,
            chunks: chunks.iter().map(|c| (self.corpus.number(c), c.len)).collect(),
            held: Bitmap::empty(chunks.len()),
            lie: false,
            flow: None,
        };
        self.transfers.insert(id, transfer);
        self.nodes[node].open.insert(id);
        let wait = self.network.packet(node, server);
        self.after(wait, Happening::SpanAsked(id));
        self.at(deadline, Happening::SpanLate(id));
    }

    /// A request reaches the one asked: it looks what it has and queues the answer.
    pub fn span_asked(&mut self, id: u64) {
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return;
        };
        let (client, server) = (transfer.client.0, transfer.server);
        let node = &mut self.nodes[server];
        if !node.up || node.nature == Nature::Silent || !self.network.reachable(client, server) {
            return;
        }
        for (i, (chunk, _)) in transfer.chunks.iter().enumerate() {
            transfer.held.set(i, chunk.is_some_and(|c| node.disk.holds(c)));
        }
        transfer.lie = node.nature == Nature::Corrupter && transfer.held.count() > 0;
        let queue = node.uplink.queues.entry(client).or_default();
        if queue.is_empty() {
            node.uplink.turn.push_back(client);
        }
        queue.push_back(id);
        self.pump(server);
    }

    /// An uplink is free again.
    pub fn uplink_free(&mut self, node: usize, life: u32) {
        if self.nodes[node].life == life {
            self.nodes[node].uplink.busy = false;
            self.pump(node);
        }
    }

    /// Sends the next span of whose turn it is.
    fn pump(&mut self, server: usize) {
        while !self.nodes[server].uplink.busy {
            let uplink = &mut self.nodes[server].uplink;
            let Some(client) = uplink.turn.pop_front() else {
                return;
            };
            let Some(queue) = uplink.queues.get_mut(&client) else {
                continue;
            };
            let next = queue.pop_front();
            if queue.is_empty() {
                uplink.queues.remove(&client);
            } else {
                uplink.turn.push_back(client);
            }
            // Requests that ended while they waited are no longer in the list.
            let Some(id) = next.filter(|id| self.transfers.contains_key(id)) else {
                continue;
            };
            self.flow(id, client, server);
        }
    }

    fn flow(&mut self, id: u64, client: usize, server: usize) {
        let delay = self.network.packet(client, server);
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return;
        };
        let bytes = if transfer.lie {
            // Whoever checks each chunk as it comes hangs up after the first.
            transfer.held.ones().next().and_then(|i| transfer.chunks.get(i)).map_or(0, |(_, len)| u64::from(*len))
        } else {
            transfer.held_bytes()
        } + REQUEST_BYTES;
        let sent = self.now + (bytes as f64 * 1e6 / self.network.up[server]) as u64;
        let begins = (self.now + delay).max(self.network.down_free[client]);
        let taken = begins + (bytes as f64 * 1e6 / self.network.down[client]) as u64;
        self.network.down_free[client] = taken;
        let came = taken.max(sent + delay);
        transfer.flow = Some((self.now + delay, came));
        self.nodes[server].uplink.busy = true;
        let life = self.nodes[server].life;
        self.at(sent, Happening::UplinkFree(server, life));
        self.at(came, Happening::SpanCame(id));
    }

    /// A span has come whole: verified and written.
    pub fn span_came(&mut self, id: u64) {
        let Some(transfer) = self.take(id) else {
            return;
        };
        let (client, life) = transfer.client;
        let (server, peer) = (transfer.server, self.nodes[transfer.server].peer);
        if transfer.lie {
            let first = transfer.held.ones().next();
            let len = first.and_then(|i| transfer.chunks.get(i)).map_or(0, |(_, len)| u64::from(*len));
            self.tally.lies += 1;
            self.tally.wasted += len;
            self.tally.most_wasted = self.tally.most_wasted.max(len);
            if self.nodes[client].nature.is_honest() {
                self.checks.offended(client, server);
            }
            let held = Bitmap::empty(transfer.chunks.len());
            let outcome = Delivery::Lied { held, why: "a chunk's bytes are not what its name says".into() };
            self.answer_span(
                client,
                life,
                Input::Delivered { peer, request: transfer.request, outcome, spent: Spent::default() },
            );
            return;
        }
        let held = transfer.held.clone();
        self.deliver(&transfer, held, |held, bytes| Delivery::Came { held, bytes, wire: bytes });
    }

    /// A span ends before all of it came: deadline, broken connection.
    pub fn span_ends_early(&mut self, id: u64) {
        let Some(transfer) = self.take(id) else {
            return;
        };
        self.tally.broken_spans += 1;
        let share = match transfer.flow {
            Some((begin, end)) if !transfer.lie && end > begin => {
                (self.now.saturating_sub(begin) as f64 / (end - begin) as f64).min(1.0)
            }
            _ => 0.0,
        };
        let held = transfer.came(share);
        self.deliver(&transfer, held, |held, _| Delivery::Broke { held });
    }

    fn deliver(&mut self, transfer: &Transfer, held: Bitmap, outcome: impl Fn(Bitmap, u64) -> Delivery) {
        let (client, life) = transfer.client;
        let server = transfer.server;
        let outcome = match self.store_chunks(client, &transfer.numbers(&held)) {
            Some((new, twice)) => {
                self.tally.useful_bytes += new;
                self.tally.duplicate_bytes += twice;
                self.tally.sent_by(server, new + twice);
                outcome(held, new + twice)
            }
            None => Delivery::NotStored { why: "no space left on the disk".into() },
        };
        let peer = self.nodes[server].peer;
        self.answer_span(
            client,
            life,
            Input::Delivered { peer, request: transfer.request, outcome, spent: Spent::default() },
        );
    }

    /// Through the queue: a span may end because of an output that is just being carried out.
    fn answer_span(&mut self, client: usize, life: u32, input: Input) {
        self.after(0, Happening::Input(client, life, Box::new(input)));
    }

    /// Takes a transfer off the books; none when it ended already or its asker's life did.
    fn take(&mut self, id: u64) -> Option<Transfer> {
        let transfer = self.transfers.remove(&id)?;
        let (client, life) = transfer.client;
        self.nodes[client].open.remove(&id);
        (self.nodes[client].up && self.nodes[client].life == life).then_some(transfer)
    }

    /// A core no longer needs an answer. One that has not begun to flow ends here, empty; one that flows comes.
    pub fn cancel_span(&mut self, node: usize, peer: Peer, request: Request) {
        let found = self.nodes[node].open.iter().copied().find(|id| {
            self.transfers.get(id).is_some_and(|t| t.request == request && self.nodes[t.server].peer == peer)
        });
        let Some(id) = found.filter(|id| self.transfers.get(id).is_some_and(|t| t.flow.is_none())) else {
            return;
        };
        let Some(transfer) = self.take(id) else {
            return;
        };
        self.tally.cancelled += 1;
        let outcome = Delivery::Came { held: Bitmap::empty(transfer.chunks.len()), bytes: 0, wire: 0 };
        self.input_after(0, node, Input::Delivered { peer, request, outcome, spent: Spent::default() });
    }

    /// A connection ended: so do the spans on it.
    pub fn break_spans(&mut self, a: usize, b: usize) {
        let between = |world: &Self, client: usize, server: usize| -> Vec<u64> {
            let open = world.nodes[client].open.iter().copied();
            open.filter(|id| world.transfers.get(id).is_some_and(|t| t.server == server)).collect()
        };
        for (client, server) in [(a, b), (b, a)] {
            for id in between(self, client, server) {
                self.span_ends_early(id);
            }
        }
    }
}
