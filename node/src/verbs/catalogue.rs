//! `search`, `show`, `lineage`: what known publishers offer. Invariant: everything said here was signed by the
//! publisher it is said of.

use super::{
    closure,
    failure::Failure,
    freshness, lookalike, permissions,
    reference::{self, Found, Names},
    revocation,
};
use crate::{api::talk::Talk, context::Context, handle::Catalogue};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    feed::Listing,
    id::{PublisherId, ReleaseId},
    io::Depth,
    release::{Param, ParamKind, Release},
    words,
};
use std::collections::BTreeSet;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    text: Option<String>,
}

pub(super) fn search(context: &Context, args: &Search) -> Result<Value, Failure> {
    let names = Names::read(context)?;
    let wanted = args.text.as_deref().unwrap_or_default().to_lowercase();
    let mut rows = Vec::new();
    let catalogue = context.handle.catalogue();
    for (publisher, known) in &catalogue {
        let listings = &known.feed.snapshot.listings;
        let distros: BTreeSet<&str> = listings.iter().map(|l| l.distro.as_str()).collect();
        for distro in distros {
            let Some(newest) = reference::newest(&catalogue, *publisher, distro, None) else { continue };
            if distro.contains(&wanted) || newest.summary.to_lowercase().contains(&wanted) {
                let mut row = describe(&names, *publisher, &newest);
                freshness::add(&mut row, context, &catalogue, *publisher);
                rows.push(row);
            }
        }
    }
    Ok(Value::Array(rows))
}

fn describe(names: &Names, publisher: PublisherId, listing: &Listing) -> Value {
    json!({
        "publisher": publisher.to_string(),
        "petname": names.of(publisher),
        "distro": listing.distro,
        "version": listing.version,
        "revision": listing.revision,
        "channel": listing.channel,
        "release": listing.release.to_string(),
        "summary": listing.summary,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reference {
    reference: String,
}

pub(super) async fn show(context: &Context, args: &Reference, talk: &Talk) -> Result<Value, Failure> {
    let found = reference::find(context, &args.reference).await?;
    lookalike::warn(context, found.publisher, &found.listing.distro, talk).await?;
    super::fetch::bring_listed(context, &found, Depth::Manifests, talk).await?;
    let closure = closure::load(context, found.release()).await?;
    let release = closure.root()?;
    let (bytes, files) = closure.totals();
    let missing = closure::missing_bytes(context, found.release()).await?;
    let names = Names::read(context)?;
    let catalogue = context.handle.catalogue();
    let versions: Vec<Value> = catalogue
        .get(&found.publisher)
        .map(|k| k.feed.snapshot.listings.as_slice())
        .unwrap_or_default()
        .iter()
        .filter(|l| l.distro == found.listing.distro)
        .map(|l| {
            json!({
                "version": l.version, "revision": l.revision, "channel": l.channel, "release": l.release.to_string(),
                "revoked": l.revoked.as_ref().map(|r| revocation::describe(&catalogue, &names, r)),
            })
        })
        .collect();
    let mut shown = describe(&names, found.publisher, &found.listing);
    shown["words"] = json!(words::of(found.publisher));
    shown["platforms"] = json!(release.platforms);
    shown["bytes"] = json!(bytes);
    shown["fetch_bytes"] = json!(missing);
    shown["files"] = json!(files);
    shown["versions"] = json!(versions);
    shown["roles"] = release.roles.iter().map(|r| Value::from(r.name.clone())).collect();
    shown["params"] = questions(&release.params);
    shown["includes"] = includes(&names, release);
    shown["permissions"] = json!(permissions::of(&closure));
    shown["tests"] = release.tests.iter().map(|t| Value::from(t.name.clone())).collect();
    shown["parents"] = parents(&catalogue, &names, release);
    shown["children"] = json!(children(&catalogue, &names, found.listing.release));
    shown["revoked"] = json!(found.listing.revoked.as_ref().map(|r| revocation::describe(&catalogue, &names, r)));
    shown["warnings"] = revocation::warnings(&catalogue, &names, &closure)?;
    freshness::add(&mut shown, context, &catalogue, found.publisher);
    reference::add_asked(&mut shown, context, found.publisher);
    Ok(shown)
}

/// Parameters as every verb gives them.
pub(super) fn questions(params: &[Param]) -> Value {
    let one = |p: &Param| {
        let (kind, of) = match &p.kind {
            ParamKind::Text => ("text", None),
            ParamKind::Int => ("int", None),
            ParamKind::Bool => ("bool", None),
            ParamKind::Enum(of) => ("enum", Some(of)),
            ParamKind::Size => ("size", None),
            ParamKind::Duration => ("duration", None),
            ParamKind::Hostname => ("hostname", None),
            ParamKind::Port => ("port", None),
            ParamKind::Url => ("url", None),
            ParamKind::Path => ("path", None),
        };
        json!({ "name": p.name, "type": kind, "of": of, "ask": p.ask, "default": p.default, "min": p.min, "max": p.max })
    };
    params.iter().map(one).collect()
}

fn includes(names: &Names, release: &Release) -> Value {
    let one = |i: &softservice_protocol::release::Include| {
        json!({
            "name": i.name, "publisher": i.publisher.to_string(), "petname": names.of(i.publisher), "distro": i.distro,
            "version": i.version, "release": i.release.id.to_string(), "role": i.role,
        })
    };
    release.includes.iter().map(one).collect()
}

fn listed(catalogue: &Catalogue, release: ReleaseId) -> Option<(PublisherId, &Listing)> {
    catalogue
        .iter()
        .find_map(|(id, known)| known.feed.snapshot.listings.iter().find(|l| l.release == release).map(|l| (*id, l)))
}

fn parents(catalogue: &Catalogue, names: &Names, release: &Release) -> Value {
    let one = |p: &softservice_protocol::release::Parent| {
        // The label is the improver's word; where the parent's own publisher is known, its word counts.
        let mut parent = match listed(catalogue, p.release) {
            Some((publisher, listing)) => describe(names, publisher, listing),
            None => {
                let (distro, version) = p.label.rsplit_once(' ').unwrap_or((p.label.as_str(), ""));
                json!({
                    "publisher": p.publisher.to_string(), "petname": names.of(p.publisher), "distro": distro,
                    "version": version, "release": p.release.to_string(),
                })
            }
        };
        parent["label"] = p.label.clone().into();
        parent
    };
    release.parents.iter().map(one).collect()
}

fn children(catalogue: &Catalogue, names: &Names, release: ReleaseId) -> Vec<Value> {
    let mut all = Vec::new();
    for (publisher, known) in catalogue {
        let mine = known.feed.snapshot.listings.iter().filter(|l| l.parents.contains(&release));
        all.extend(mine.map(|l| describe(names, *publisher, l)));
    }
    all
}

pub(super) async fn lineage(context: &Context, args: &Reference, talk: &Talk) -> Result<Value, Failure> {
    let found = reference::find(context, &args.reference).await?;
    let names = Names::read(context)?;
    super::fetch::bring_listed(context, &found, Depth::Manifests, talk).await?;
    let closure = closure::load(context, found.release()).await?;
    let Found { publisher, listing } = found;
    let catalogue = context.handle.catalogue();
    let mut tree = describe(&names, publisher, &listing);
    tree["parents"] = parents(&catalogue, &names, closure.root()?);
    tree["children"] = json!(children(&catalogue, &names, listing.release));
    Ok(tree)
}
