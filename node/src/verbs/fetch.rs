//! `fetch`, and what other verbs need of it. Invariant: what was fetched is whole and durable when this returns, and what
//! was chosen in a catalogue is what its publisher's listing says.

use super::{
    closure::{self, blocking},
    failure::Failure,
    quota,
    reference::{self, Found, Names},
};
use crate::{
    api::talk::Talk,
    context::Context,
    handle::{CommandError, FetchProgress, PeerInfo, Transfer},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use softservice_protocol::{
    codec,
    io::{Depth, FetchFigures, Stage, Step},
    limits,
    release::{Release, ReleaseRef},
};
use tokio::sync::watch;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fetch {
    reference: String,
}

pub(super) async fn fetch(context: &Context, args: &Fetch, talk: &Talk) -> Result<Value, Failure> {
    let found = reference::find(context, &args.reference).await?;
    super::freshness::warn(context, found.publisher, talk).await?;
    let figures = bring_listed(context, &found, Depth::Content, talk).await?;
    let mut answer = describe(context, &figures).await?;
    answer["release"] = found.listing.release.to_string().into();
    Ok(answer)
}

/// A fetch of what was found in a catalogue. Its documents come first: what is not what its publisher's listing says is
/// refused before its content crosses the network.
pub(super) async fn bring_listed(
    context: &Context,
    found: &Found,
    depth: Depth,
    talk: &Talk,
) -> Result<Box<FetchFigures>, Failure> {
    let looked = bring(context, found.release(), Depth::Manifests, talk).await?;
    agree(context, found).await?;
    if depth != Depth::Content {
        return Ok(looked);
    }
    let figures = bring(context, found.release(), depth, talk).await?;
    Ok(Box::new(figures.after(&looked)))
}

/// The document that is here and the listing by which it was chosen, or is about to be signed, say the same.
///
/// # Errors
/// They do not, and then nobody uses it; or the document cannot be read.
pub(super) async fn agree(context: &Context, found: &Found) -> Result<(), Failure> {
    let (store, id) = (closure::store(context), found.listing.release);
    let document = blocking(move || Ok(store.object(id.object(), limits::RELEASE_BYTES)?)).await?;
    let release: Release = codec::decode(&document).map_err(|e| Failure::failed(e.to_string()))?;
    found.listing.agrees(found.publisher, &release).map_err(|disagreement| {
        let (names, listing) = (Names::read(context), &found.listing);
        let whose = names.map_or_else(|_| found.publisher.short(), |names| names.of(found.publisher));
        Failure::refused(format!("{whose}/{} {} is not what it was listed as: {disagreement}", listing.distro, listing.version))
            .hint("its publisher signed that, whoever served it; take another version, and ask the publisher")
            .with(json!({ "disagreement": { "what": disagreement.what, "listed": disagreement.listed, "said": disagreement.said } }))
            .by(Step::Place)
    })
}

/// A fetch with its progress told. Its figures come in a box: whoever waits for them waits deep inside of other verbs, and a
/// thread's stack has to hold what all of them remember.
pub(super) async fn bring(
    context: &Context,
    release: ReleaseRef,
    depth: Depth,
    talk: &Talk,
) -> Result<Box<FetchFigures>, Failure> {
    // To the end of the verb: what was fetched is a root only when that has made it one.
    let _held = context.holds.keep(release.id);
    if depth != Depth::Content {
        return transfer(context, release, depth, talk).await;
    }
    let (_coming, looked) = Box::pin(quota::admit(context, release, talk)).await?;
    let figures = transfer(context, release, depth, talk).await?;
    Ok(match looked {
        Some(looked) => Box::new(figures.after(&looked)),
        None => figures,
    })
}

/// The same without asking whether there is room for it.
pub(super) async fn transfer(
    context: &Context,
    release: ReleaseRef,
    depth: Depth,
    talk: &Talk,
) -> Result<Box<FetchFigures>, Failure> {
    let (tell, mut told) = watch::channel(None::<FetchProgress>);
    let talk = talk.clone();
    let mut fetch = Box::pin(context.handle.fetch(release, depth, Some(tell)));
    loop {
        tokio::select! {
            done = &mut fetch => return done.map(Box::new).map_err(CommandError::into),
            changed = told.changed() => {
                if changed.is_err() {
                    // Told nothing more; the answer comes.
                    return fetch.await.map(Box::new).map_err(CommandError::into);
                }
                if let Some(p) = *told.borrow_and_update() {
                    talk.progress(stage_name(p.stage), p.bytes, p.of, p.peers);
                }
            }
        }
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Releases => "releases",
        Stage::Manifests => "manifests",
        Stage::Content => "fetch",
    }
}

/// The figures as every verb gives them.
pub(super) async fn describe(context: &Context, figures: &FetchFigures) -> Result<Value, Failure> {
    Ok(told(figures, &context.handle.status().await?.peers))
}

/// A fetch that goes on, for `status`.
pub(super) fn going(transfer: &Transfer, connected: &[PeerInfo]) -> Value {
    let stage = transfer.stage.map(|stage| match stage {
        Stage::Releases => "releases",
        Stage::Manifests => "manifests",
        Stage::Content => "content",
    });
    let left = transfer.of.saturating_sub(transfer.bytes);
    let eta = transfer.rate.filter(|rate| *rate > 0 && stage.is_some()).map(|rate| left as f64 / rate as f64);
    json!({
        "release": transfer.release,
        "stage": stage,
        "bytes": transfer.bytes,
        "of": transfer.of,
        "peers": transfer.peers,
        "ahead": transfer.ahead,
        "rate": transfer.rate,
        "eta": eta,
        "limited_by": transfer.figures.waits.limited_by(),
        "fetched": told(&transfer.figures, connected),
    })
}

/// The figures, with the addresses of peers that are connected.
fn told(figures: &FetchFigures, connected: &[PeerInfo]) -> Value {
    let by_peer: Map<String, Value> = figures.by_peer.iter().map(|(peer, n)| (peer.to_string(), json!(n))).collect();
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let peers: Vec<Value> = figures
        .wire_by_peer
        .iter()
        .map(|(peer, wire)| {
            let device = peer.to_string();
            let address = connected.iter().find(|p| p.device == device).map(|p| p.address.as_str());
            let bytes = figures.by_peer.get(peer).copied().unwrap_or_default();
            json!({ "device": device, "address": address, "bytes": bytes, "wire_bytes": wire })
        })
        .collect();
    let carried = figures.carried.total();
    let ratio = (carried.wire_bytes > 0).then(|| carried.bytes as f64 / carried.wire_bytes as f64);
    let waits = figures.waits;
    json!({
        "bytes": figures.bytes,
        "new_bytes": figures.new_bytes,
        "local_bytes": figures.bytes.saturating_sub(figures.new_bytes),
        // Answers as they crossed the network, wanted or not; framing and encryption are not counted.
        "wire_bytes": figures.wire_bytes.saturating_add(figures.wasted),
        "duplicates": figures.duplicates,
        "wasted": figures.wasted,
        "seconds": seconds(figures.millis),
        "phases": {
            "look": seconds(figures.phases.looking),
            "transfer": seconds(figures.phases.transferring),
            "assemble": seconds(figures.phases.assembling),
        },
        "waits": {
            "looking": seconds(waits.looking),
            "peer": seconds(waits.peer),
            "link": seconds(waits.link),
            "limit": seconds(waits.limit),
            "disk": seconds(waits.disk),
            "cpu": seconds(waits.cpu),
        },
        "limited_by": waits.limited_by(),
        "compression": {
            "ratio": ratio,
            "plain": figures.carried.plain,
            "zstd": figures.carried.zstd,
            "delta": figures.carried.delta,
        },
        "by_peer": by_peer,
        "peers": peers,
    })
}
