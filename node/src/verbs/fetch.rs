//! `fetch`, and what other verbs need of it. Invariant: what was fetched is whole and durable when this returns.

use super::{failure::Failure, reference};
use crate::{
    api::talk::Talk,
    context::Context,
    handle::{CommandError, FetchProgress},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use softservice_protocol::{
    io::{Depth, FetchFigures, Stage},
    release::ReleaseRef,
};
use tokio::sync::watch;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fetch {
    reference: String,
}

pub(super) async fn fetch(context: &Context, args: &Fetch, talk: &Talk) -> Result<Value, Failure> {
    let found = reference::find(context, &args.reference).await?;
    let figures = bring(context, found.release(), Depth::Content, talk).await?;
    let mut answer = describe(&figures);
    answer["release"] = found.listing.release.to_string().into();
    Ok(answer)
}

/// A fetch with its progress told.
pub(super) async fn bring(
    context: &Context,
    release: ReleaseRef,
    depth: Depth,
    talk: &Talk,
) -> Result<FetchFigures, Failure> {
    // To the end of the verb: what was fetched is a root only when that has made it one.
    let _held = context.holds.keep(release.id);
    let (tell, mut told) = watch::channel(None::<FetchProgress>);
    let talk = talk.clone();
    let fetch = context.handle.fetch(release, depth, Some(tell));
    tokio::pin!(fetch);
    loop {
        tokio::select! {
            done = &mut fetch => return done.map_err(CommandError::into),
            changed = told.changed() => {
                if changed.is_err() {
                    // Told nothing more; the answer comes.
                    return fetch.await.map_err(CommandError::into);
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
pub(super) fn describe(figures: &FetchFigures) -> Value {
    let by_peer: Map<String, Value> = figures.by_peer.iter().map(|(peer, n)| (peer.to_string(), json!(n))).collect();
    let seconds = |millis: u64| millis as f64 / 1000.0;
    json!({
        "bytes": figures.bytes,
        "new_bytes": figures.new_bytes,
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
        "by_peer": by_peer,
    })
}
