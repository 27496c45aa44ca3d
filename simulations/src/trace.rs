//! The trace of a run: a running hash over everything that went into a core and came out of one.
//! Invariant: two runs have equal traces exactly when every core saw the same inputs at the same times and answered
//! with the same outputs.

use softservice_protocol::io::{Delivery, Input, Output};

/// A running hash, and lines for people when they want them.
#[derive(Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    /// Inputs and outputs so far.
    pub steps: u64,
    told: bool,
}

impl Trace {
    /// An empty trace; `told` prints the story to stderr as it happens.
    pub fn new(told: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), steps: 0, told }
    }
    /// The hash so far, as hex.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
    /// An input on its way into a node's core.
    pub fn input(&mut self, now: u64, node: usize, input: &Input) {
        let (code, detail) = input_code(input);
        self.note(now, node, code, detail);
        if let Input::Received { bytes, .. } | Input::Gossiped { bytes, .. } = input {
            self.hasher.update(bytes);
        }
    }
    /// An output of a node's core.
    pub fn output(&mut self, now: u64, node: usize, output: &Output) {
        let (code, detail) = output_code(output);
        self.note(now, node, code, detail);
        if let Output::Send { bytes, .. } | Output::Gossip { bytes, .. } = output {
            self.hasher.update(bytes);
        }
    }
    /// One line of the story, made only when somebody listens.
    pub fn tell(&self, now: u64, node: usize, line: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>10.3}  {node:>5}  {}", now as f64 / 1e6, line());
        }
    }
    fn note(&mut self, now: u64, node: usize, code: u8, detail: u64) {
        self.steps += 1;
        let mut line = [0; 25];
        line[..8].copy_from_slice(&now.to_le_bytes());
        line[8..16].copy_from_slice(&(node as u64).to_le_bytes());
        line[16..24].copy_from_slice(&detail.to_le_bytes());
        line[24] = code;
        self.hasher.update(&line);
    }
}

fn first(id: &[u8; 32]) -> u64 {
    u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
}

/// A code for each input, and the number that tells it from others of its kind.
fn input_code(input: &Input) -> (u8, u64) {
    match input {
        Input::Restored(_) => (0, 0),
        Input::Woke => (1, 0),
        Input::Connected { peer, .. } => (2, first(&peer.0)),
        Input::Disconnected { peer } => (3, first(&peer.0)),
        Input::Found { address, .. } => (4, address.len() as u64),
        Input::Broke { peer, .. } => (30, first(&peer.0)),
        Input::DialFailed { address } => (5, address.len() as u64),
        Input::Received { peer, .. } => (6, first(&peer.0)),
        Input::Gossiped { gossip, .. } => (7, *gossip),
        Input::Durable(token) => (8, token.0),
        Input::NotKept { token, .. } => (9, token.0),
        Input::Signed { token, .. } => (10, token.0),
        Input::Follow { .. } => (11, 0),
        Input::Unfollow { .. } => (12, 0),
        Input::Refresh { job, .. } => (22, job.0),
        Input::Own { .. } => (13, 0),
        Input::Marked { head, .. } => (23, head.at.seq),
        Input::Lossy(lossy) => (33, u64::from(*lossy)),
        Input::Publish { job, .. } => (14, job.0),
        Input::Append { job, .. } => (24, job.0),
        Input::Withdraw { .. } => (25, 0),
        Input::PublishBy { job, .. } => (27, job.0),
        Input::Resign { job, .. } => (26, job.0),
        Input::Freshen { .. } => (28, 0),
        Input::SetBack { behind } => (31, behind.0),
        Input::Fetch { job, .. } => (15, job.0),
        Input::Abandon { job } => (16, job.0),
        Input::Expanded { job, list } => (17, job.0 << 32 | list.as_ref().map_or(0, |l| l.have.count()) as u64),
        Input::Delivered { request, outcome, .. } => {
            let count = match outcome {
                Delivery::Came { held, .. } | Delivery::Lied { held, .. } | Delivery::Broke { held } => held.count(),
                Delivery::NotStored { .. } => usize::from(u16::MAX),
            };
            (18, request.0 << 16 | count as u64)
        }
        Input::Assembled { job, .. } => (19, job.0),
        Input::Surveyed { peer, held, .. } => (20, first(&peer.0) ^ held.as_ref().map_or(0, |h| h.count() as u64)),
        Input::Provision(_) => (21, 0),
    }
}

/// A code for each output, and the number that tells it from others of its kind.
fn output_code(output: &Output) -> (u8, u64) {
    match output {
        Output::Wake(time) => (64, time.0),
        Output::Dial { address } => (65, first(blake3::hash(address.as_bytes()).as_bytes())),
        Output::Disconnect { peer, ban_until, .. } => (66, first(&peer.0) ^ ban_until.map_or(0, |t| t.0)),
        Output::Send { peer, .. } => (67, first(&peer.0)),
        Output::Topic { publisher, join } => (68, first(&publisher.0) ^ u64::from(*join)),
        Output::Gossip { publisher, .. } => (69, first(&publisher.0)),
        Output::Judge { gossip, verdict, .. } => (70, gossip << 2 | *verdict as u64),
        Output::Keep { token, .. } => (71, token.0),
        Output::Sign { token, .. } => (72, token.0),
        Output::Expand { job, .. } => (73, job.0),
        Output::Request { request, chunks, .. } => {
            (74, request.0 ^ chunks.first().map_or(0, |c| first(&c.id.0)) ^ (chunks.len() as u64) << 48)
        }
        Output::Cancel { request, .. } => (75, request.0),
        Output::Assemble { job, stage } => (76, job.0 << 2 | *stage as u64),
        Output::Survey { peer, .. } => (77, first(&peer.0)),
        Output::Perform(step) => (78, u64::from(step.generation.number) << 8 | step.effect as u64),
        Output::Tell(_) => (79, 0),
    }
}
