//! An attacker for `flood`: one kind of attack, from one address, as fast as it goes, on and on.
//! `mallory KIND SOURCE VICTIM PUBLISHER SECONDS [CHUNKS]`, where CHUNKS is a file of lines `ID LENGTH` of what the victim holds.
//! Prints one JSON document: when it was cut off, how often it was let in, how often it tried.
//! Invariant: it knows nothing that a stranger could not know.

#[path = "../../src/net/transport/mod.rs"]
#[allow(dead_code, reason = "the node's own transport, of which an attacker needs less")]
mod transport;

mod bound;
mod line;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, core::muxing::SubstreamBox, identity::Keypair};
use line::Line;
use softservice_protocol::{
    chunk::ChunkRef,
    codec,
    id::{FeedId, PublisherId},
    message::SpanRequest,
    sign::{Envelope, Kind, Signature},
};
use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Who was not let in for so long is cut off.
const CUT_OFF: Duration = Duration::from_secs(10);
/// Between two tries of one who keeps its name; whoever changes it does not wait.
const AGAIN: Duration = Duration::from_millis(20);
/// Storms have so many tries under way.
const AT_ONCE: usize = 16;

struct Attack {
    kind: String,
    from: IpAddr,
    victim: Multiaddr,
    publisher: PublisherId,
    chunks: Vec<ChunkRef>,
}

/// When it was let in: pairs of begin and end, in seconds since the start.
#[derive(Default)]
struct Diary {
    tries: u64,
    let_in: Vec<(f64, f64)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, from, victim, publisher, seconds, chunks @ ..] = &words[..] else {
        panic!("mallory KIND SOURCE VICTIM PUBLISHER SECONDS [CHUNKS]")
    };
    let chunks =
        chunks.first().map(|path| std::fs::read_to_string(path).expect("a list of chunks")).unwrap_or_default();
    let chunk = |line: &str| {
        let (id, len) = line.split_once(' ').expect("ID LENGTH");
        ChunkRef { id: id.parse().expect("an id"), len: len.parse().expect("a length") }
    };
    let attack = Attack {
        kind: kind.clone(),
        from: from.parse().expect("an IP address"),
        victim: victim.parse().expect("a multiaddress"),
        publisher: publisher.parse().expect("a publisher's id"),
        chunks: chunks.lines().map(chunk).collect(),
    };
    let span = Duration::from_secs(seconds.parse().expect("seconds"));
    let (begun, mut diary) = (Instant::now(), Diary::default());
    if matches!(kind.as_str(), "handshakes" | "knocks" | "identities") {
        storm(&attack, begun, span, &mut diary).await;
    } else {
        // One name, which comes back as soon as it is sent away.
        let key = Keypair::generate_ed25519();
        while begun.elapsed() < span {
            let (from, left) = (begun.elapsed(), span.saturating_sub(begun.elapsed()));
            diary.tries += 1;
            let was_in = tokio::time::timeout(left, attack.once(&key)).await;
            if was_in != Ok(false) {
                diary.let_in.push((from.as_secs_f64(), begun.elapsed().as_secs_f64()));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    println!("{}", diary.told(span));
}

/// Many tries at once, each under a new name.
async fn storm(attack: &Attack, begun: Instant, span: Duration, diary: &mut Diary) {
    let tries = futures::stream::unfold((), |()| async { Some((begun.elapsed(), ())) });
    let tries = futures::StreamExt::take_while(tries, |from| std::future::ready(*from < span));
    let one = |from: Duration| async move {
        let left = span.saturating_sub(from);
        let was_in = tokio::time::timeout(left, attack.once(&Keypair::generate_ed25519())).await;
        (from, begun.elapsed(), was_in != Ok(false))
    };
    let mut tries = std::pin::pin!(futures::StreamExt::buffer_unordered(futures::StreamExt::map(tries, one), AT_ONCE));
    while let Some((from, until, was_in)) = futures::StreamExt::next(&mut tries).await {
        diary.tries += 1;
        if was_in {
            diary.let_in.push((from.as_secs_f64(), until.as_secs_f64()));
        }
        tokio::task::yield_now().await;
    }
}

impl Diary {
    fn told(mut self, span: Duration) -> serde_json::Value {
        self.let_in.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The first long pause in being let in, and how long it was let in after that.
        let (mut cut_off, mut last) = (None, 0.0);
        for (from, until) in &self.let_in {
            if cut_off.is_none() && from - last >= CUT_OFF.as_secs_f64() {
                cut_off = Some(last);
            }
            last = f64::max(last, *until);
        }
        if cut_off.is_none() && span.as_secs_f64() - last >= CUT_OFF.as_secs_f64().min(span.as_secs_f64() / 2.0) {
            cut_off = Some(last);
        }
        let later = self.let_in.iter().filter(|(from, _)| cut_off.is_some_and(|at| *from > at)).count();
        serde_json::json!({
            "tries": self.tries, "let_in": self.let_in.len(), "cut_off_seconds": cut_off, "let_in_later": later,
        })
    }
}

fn varint(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
/// A field of bytes in a message of gossip.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len(), out);
    out.extend_from_slice(bytes);
}

impl Attack {
    /// One connection, used until the victim ends it; false when not even that came about.
    async fn once(&self, key: &Keypair) -> bool {
        if self.kind == "knocks" {
            return self.knock().await;
        }
        let Some(line) = Line::open(key, self.from, &self.victim).await else { return false };
        if self.kind == "handshakes" {
            // Refused ones are closed in the moment in which the handshake ends.
            return line.stream("/ipfs/ping/1.0.0").await.is_ok();
        }
        // What is banned finishes its handshake and is refused with that: who may open a stream is in.
        let Ok(stream) = line.stream(self.protocol()).await else { return false };
        tokio::select! {
            _ = self.flood(stream) => {},
            () = line.ended() => {},
        }
        true
    }

    /// A connection that never says anything.
    async fn knock(&self) -> bool {
        let Some(to) = bound::socket_address(&self.victim) else { return false };
        let Ok(mut stream) = bound::connect(self.from, to).await else { return false };
        let begun = Instant::now();
        let mut byte = [0];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await;
        // Who is refused is refused at once; who is waited for, for some seconds.
        begun.elapsed() > Duration::from_secs(1)
    }

    fn protocol(&self) -> &'static str {
        match self.kind.as_str() {
            "frames" | "identities" => "/softservice/control/1",
            "content" => "/softservice/content/2",
            _ => "/meshsub/1.1.0",
        }
    }

    async fn flood(&self, mut stream: SubstreamBox) -> io::Result<()> {
        match self.kind.as_str() {
            "frames" | "identities" => {
                loop {
                    // A good length and nonsense, then a length that nothing has.
                    let mut frame = 4096_u32.to_le_bytes().to_vec();
                    frame.resize(4100, 0xff);
                    frame.extend_from_slice(&u32::MAX.to_le_bytes());
                    stream.write_all(&frame).await?;
                    stream.flush().await?;
                }
            }
            "content" => self.ask(stream).await,
            kind => self.gossip(stream, kind).await,
        }
    }

    /// What the victim holds, over and over, as fast as it is sent.
    async fn ask(&self, stream: SubstreamBox) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let drained = tokio::spawn(line::drain(reader));
        for request in 0.. {
            let chunks: Vec<ChunkRef> = self.chunks.iter().take(8).copied().collect();
            let bytes = codec::encode(&SpanRequest { request, chunks, base: Vec::new() }).map_err(io::Error::other)?;
            let mut frame = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
            frame.extend_from_slice(&bytes);
            writer.write_all(&frame).await?;
            writer.flush().await?;
            // A device has some requests open, not all of them.
            if request % 8 == 7 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        drained.await.map_err(io::Error::other)
    }

    async fn gossip(&self, stream: SubstreamBox, kind: &str) -> io::Result<()> {
        let (reader, mut writer) = stream.split();
        let _drained = tokio::spawn(line::drain(reader));
        let topic = format!("softservice/1/{}", self.publisher);
        let (mut subscription, mut packet) = (vec![1 << 3, 1], Vec::new());
        field(2, topic.as_bytes(), &mut subscription);
        field(1, &subscription, &mut packet);
        for number in 0_u64.. {
            let data = self.message(kind, number)?;
            let mut message = Vec::new();
            field(2, &data, &mut message);
            field(4, topic.as_bytes(), &mut message);
            field(2, &message, &mut packet);
            let mut wire = Vec::new();
            varint(packet.len(), &mut wire);
            wire.append(&mut packet);
            writer.write_all(&wire).await?;
            writer.flush().await?;
        }
        Ok(())
    }

    fn message(&self, kind: &str, number: u64) -> io::Result<Vec<u8>> {
        let envelope = |publisher: PublisherId, key: u8| {
            let payload = number.to_le_bytes().repeat(40);
            let signature = Signature {
                algorithm: 1,
                key: softservice_protocol::id::PublicKey([key; 32]),
                bytes: blake3::hash(&payload).as_bytes().repeat(2),
            };
            let feed = FeedId::main(publisher);
            codec::encode(&Envelope { kind: Kind::Entry, publisher, feed, payload, signatures: vec![signature] })
        };
        match kind {
            // Valid-looking: a statement of somebody whom nobody here follows.
            "strangers" => envelope(PublisherId(*blake3::hash(&number.to_le_bytes()).as_bytes()), 7),
            // Invalid: of the publisher that is followed, and not signed by it.
            "forgeries" => envelope(self.publisher, 9),
            // Always the same, which is looked at once and costs something all the same.
            "repeats" => return Ok(vec![42; 1024]),
            _ => return Ok(vec![number as u8; 1 + number as usize % 4000]),
        }
        .map_err(io::Error::other)
    }
}
