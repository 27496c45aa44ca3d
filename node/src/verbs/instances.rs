//! `ps`, `logs`, `generations`, `hold`, `unhold`, `down`, `start`, `remove`: softservices that are here. Invariant: a
//! softservice is only changed by the device; this file asks and describes.

use super::{
    closure,
    failure::{Failure, Kind},
    freshness, overlay,
    reference::{self, Found, Names},
    revocation,
};
use crate::{
    api::talk::Talk,
    context::Context,
    device::{BackupError, DeviceError, GenerationInfo, SoftserviceInfo, Standing},
    handle::Catalogue,
};
use semver::Version;
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    feed::Listing,
    id::{PublisherId, ReleaseId},
    instance::InstanceError,
    release::ReleaseRef,
};

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        if let Some(refusal) = overlay::refusal(&error) {
            return refusal;
        }
        let message = error.to_string();
        let kind = match &error {
            DeviceError::Unknown { .. } | DeviceError::NoGeneration { .. } | DeviceError::NoService { .. } => {
                Kind::NotFound
            }
            DeviceError::Busy { .. }
            | DeviceError::Held { .. }
            | DeviceError::Removing { .. }
            | DeviceError::Closing
            | DeviceError::NeverConfirmed { .. }
            | DeviceError::Stuck { .. }
            | DeviceError::PlanChanged { .. }
            | DeviceError::Wider { .. }
            | DeviceError::Trespass { .. }
            | DeviceError::NoRoom { .. }
            | DeviceError::NoSnapshot { .. }
            | DeviceError::NoMigration { .. }
            | DeviceError::LeftData { .. }
            | DeviceError::LeftByAnother { .. }
            | DeviceError::Epoch { .. } => Kind::Refused,
            DeviceError::Name(_) | DeviceError::Overlay { .. } => Kind::Usage,
            DeviceError::Damaged { .. } => Kind::Damaged,
            DeviceError::Down { .. } | DeviceError::Occupied { .. } => Kind::Refused,
            DeviceError::Backup { source, .. } => match source.as_ref() {
                BackupError::Damaged { .. } => Kind::Damaged,
                BackupError::Exists(_) | BackupError::Locked { .. } | BackupError::Refused { .. } => Kind::Refused,
                BackupError::Key { .. } | BackupError::Foreign { .. } => Kind::Usage,
                BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::Failed,
            },
            DeviceError::Instance { source, .. } => match source.as_ref() {
                InstanceError::Unanswered { .. } | InstanceError::Unasked { .. } | InstanceError::Answer { .. } => {
                    Kind::Usage
                }
                InstanceError::Asks { .. } => Kind::Refused,
                _ => Kind::Failed,
            },
            _ => Kind::Failed,
        };
        match error {
            DeviceError::Store { source, .. } => {
                let mut failure = Self::from(*source);
                failure.message = message;
                failure
            }
            _ => Self::new(kind, message),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaybeNamed {
    name: Option<String>,
}

pub(super) async fn ps(context: &Context, args: MaybeNamed) -> Result<Value, Failure> {
    let all = match args.name {
        Some(name) => vec![context.device.info(&name).await?],
        None => context.device.list().await?,
    };
    let newer = updatable(context).await?;
    let mut shown = Vec::new();
    for info in all {
        let one = overlay::with_tasks(context, json!(info), &newer).await;
        shown.push(with_revocation(context, one).await?);
    }
    Ok(json!(shown))
}

/// Adds what became of the release that runs, and of those that it is made of or comes from, and how old its publisher's word is.
async fn with_revocation(context: &Context, mut shown: Value) -> Result<Value, Failure> {
    (shown["revoked"], shown["warnings"]) = (Value::Null, json!([]));
    (shown["freshness"], shown["fresh_until"], shown["frozen"]) = (Value::Null, Value::Null, json!(false));
    let name = shown["name"].as_str().unwrap_or_default();
    let Ok(Some((_, release))) = context.device.current(name).await else { return Ok(shown) };
    // One that cannot be read must not hide the others.
    let Ok(closure) = closure::load(context, ReleaseRef { id: release, size: 0 }).await else { return Ok(shown) };
    let (catalogue, names) = (context.handle.catalogue(), Names::read(context)?);
    let revoked = revocation::of(&catalogue, closure.root()?.publisher, release);
    shown["revoked"] = json!(revoked.map(|r| revocation::describe(&catalogue, &names, r)));
    shown["warnings"] = revocation::warnings(&catalogue, &names, &closure)?;
    let publisher = closure.root()?.publisher;
    freshness::add(&mut shown, context, &catalogue, publisher);
    shown["petname"] = names.of(publisher).into();
    Ok(shown)
}

pub(super) async fn generations(context: &Context, args: Named) -> Result<Value, Failure> {
    Ok(json!(context.device.generations(&args.name).await?))
}

pub(super) async fn hold(context: &Context, args: Named, held: bool) -> Result<Value, Failure> {
    context.device.hold(&args.name, held).await?;
    Ok(json!({ "name": args.name, "held": held }))
}

pub(super) async fn down(context: &Context, args: Named) -> Result<Value, Failure> {
    context.device.down(&args.name).await?;
    described(context, &args.name).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    name: String,
    /// Also what its publisher called unsafe.
    #[serde(default)]
    accept_revoked: bool,
}

pub(super) async fn start(context: &Context, args: Start) -> Result<Value, Failure> {
    if let Ok(Some((_, release))) = context.device.current(&args.name).await {
        revocation::refuse_start(context, &args.name, release, args.accept_revoked).await?;
    }
    if context.device.stuck(&args.name)?.is_some() {
        // Asked again under the turn: of a life that has ended meanwhile nothing is repeated.
        let _turn = context.device.turn(&args.name)?;
        if let Some(step) = context.device.stuck(&args.name)? {
            // How it ended is what the device says next.
            context.handle.try_again(step).await?;
        }
    }
    context.device.start(&args.name).await?;
    described(context, &args.name).await
}

async fn described(context: &Context, name: &str) -> Result<Value, Failure> {
    Ok(json!(context.device.info(name).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    name: String,
    #[serde(default)]
    data: bool,
}

pub(super) async fn remove(context: &Context, args: Remove) -> Result<Value, Failure> {
    context.device.remove(&args.name, args.data).await?;
    let volumes = context.home.join("softservices").join(&args.name).join("volumes");
    let has = |dir: &std::path::Path| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    let kept: Vec<_> = std::iter::once(volumes).filter(|dir| has(dir)).collect();
    Ok(json!({ "name": args.name, "data": args.data, "kept": kept }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    name: String,
    service: Option<String>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(context: &Context, args: Logs, talk: &Talk) -> Result<Value, Failure> {
    let mut logs = context.device.logs(&args.name, args.service.as_deref(), args.follow).await?;
    let mut lines = 0_u64;
    loop {
        let next = tokio::select! {
            next = logs.next() => next?,
            // A stream must not keep a node from stopping.
            () = context.stop.wait() => None,
        };
        let Some(line) = next else { break };
        lines += 1;
        if !talk.line(json!({ "service": line.service, "line": line.line })).await {
            break;
        }
    }
    Ok(json!({ "lines": lines }))
}

/// A softservice for which something newer was published.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Its name.
    pub(super) name: String,
    /// Its owner wants it to stay.
    pub(super) held: bool,
    /// Its owner wants it to run.
    pub(super) up: bool,
    /// One of its generations had this release.
    pub(super) had: bool,
    /// What there is.
    pub(super) found: Found,
}

/// Who published what a softservice runs, and as what.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The release itself.
    pub(super) release: ReleaseId,
    /// Whose it is.
    pub(super) publisher: PublisherId,
    /// The distro.
    pub(super) distro: String,
    /// Its version.
    pub(super) version: String,
    /// Its packaging revision.
    pub(super) revision: u32,
}

/// Reads it from the release that runs.
pub(super) async fn origin(context: &Context, release: ReleaseId) -> Result<Origin, Failure> {
    // The size matters to a fetch only; what runs is here.
    let closure = closure::load(context, ReleaseRef { id: release, size: 0 }).await?;
    let root = closure.root()?;
    Ok(Origin {
        release,
        publisher: root.publisher,
        distro: root.distro.clone(),
        version: root.version.clone(),
        revision: root.revision,
    })
}

/// Whether a softservice was confirmed with this release, now or before.
pub(super) async fn had(context: &Context, name: &str, release: ReleaseId) -> bool {
    let hex = release.to_string();
    let confirmed = |g: &GenerationInfo| matches!(g.record.state, Standing::Committed | Standing::Superseded);
    let all = context.device.generations(name).await.unwrap_or_default();
    all.iter().any(|g| confirmed(g) && g.record.release == hex)
}

/// Whether any softservice here runs this release.
pub(super) async fn runs(context: &Context, release: ReleaseId) -> Result<bool, Failure> {
    for info in context.device.list().await? {
        if matches!(context.device.current(&info.name).await, Ok(Some((_, current))) if current == release) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What its publisher names in place of a revoked release that runs: another one of the same distro that stands.
pub(super) fn replacement(catalogue: &Catalogue, origin: &Origin) -> Option<Found> {
    let wanted = revocation::of(catalogue, origin.publisher, origin.release)?.replaced_by?;
    let mut listings = catalogue.get(&origin.publisher)?.feed.snapshot.listings.iter();
    let listing = listings.find(|l| l.release == wanted && l.distro == origin.distro && l.revoked.is_none())?;
    Some(Found { publisher: origin.publisher, listing: listing.clone() })
}

/// The newest listing that leads on from what runs. Of what is listed no more the channel is not known.
pub(super) fn newer(catalogue: &Catalogue, origin: &Origin) -> Option<Found> {
    let channel = revocation::listed(catalogue, origin.publisher, origin.release).map(|l| l.channel.as_str());
    let listing = reference::newest(catalogue, origin.publisher, &origin.distro, channel)?;
    leads_on(catalogue, origin, &listing).then_some(Found { publisher: origin.publisher, listing })
}

/// Where what runs leads: to what its publisher names in its place when it was taken back, if that leads on, or else to the
/// newest. The newest may wait for its owner for long, and what is unsafe need not run until then.
fn next(catalogue: &Catalogue, origin: &Origin) -> Option<Found> {
    let instead = replacement(catalogue, origin).filter(|found| leads_on(catalogue, origin, &found.listing));
    instead.or_else(|| newer(catalogue, origin))
}

/// Whether a listing of the same publisher is above what runs, on the channel that what runs came from: another one is another
/// choice of the owner, and may be filled by a key that this one is not.
fn leads_on(catalogue: &Catalogue, origin: &Origin, listing: &Listing) -> bool {
    let from = revocation::listed(catalogue, origin.publisher, origin.release);
    let stays = listing.distro == origin.distro && from.is_none_or(|l| l.channel == listing.channel);
    stays && order(&listing.version, listing.revision) > order(&origin.version, origin.revision)
}

/// What versions are compared by; a packaging revision counts after them.
fn order(version: &str, revision: u32) -> Option<(Version, u32)> {
    Version::parse(version).ok().map(|v| (v, revision))
}

/// What a softservice runs, where a release of the same distro is older than that: whoever goes there goes back.
pub(super) async fn above(context: &Context, name: &str, release: ReleaseId) -> Option<Origin> {
    let (_, current) = context.device.current(name).await.ok()??;
    let (runs, to) = (origin(context, current).await.ok()?, origin(context, release).await.ok()?);
    let same = (runs.publisher, &runs.distro) == (to.publisher, &to.distro);
    (same && order(&runs.version, runs.revision) > order(&to.version, to.revision)).then_some(runs)
}

/// All softservices for which there is something newer.
pub(super) async fn updatable(context: &Context) -> Result<Vec<Candidate>, Failure> {
    let catalogue = context.handle.catalogue();
    let mut all = Vec::new();
    for info in context.device.list().await? {
        let Ok(Some((_, release))) = context.device.current(&info.name).await else { continue };
        // One that cannot be read must not hide the others.
        let Ok(origin) = origin(context, release).await else { continue };
        let Some(found) = next(&catalogue, &origin) else { continue };
        all.push(judged(context, info, found).await);
    }
    Ok(all)
}

/// A release as what one softservice may be moved to, if it leads on from what that one runs.
pub(super) async fn candidate(context: &Context, name: &str, found: Found) -> Result<Option<Candidate>, Failure> {
    let Some((_, release)) = context.device.current(name).await? else { return Ok(None) };
    let origin = origin(context, release).await?;
    let leads = origin.publisher == found.publisher && leads_on(&context.handle.catalogue(), &origin, &found.listing);
    Ok(if leads { Some(judged(context, context.device.info(name).await?, found).await) } else { None })
}

async fn judged(context: &Context, info: SoftserviceInfo, found: Found) -> Candidate {
    let hex = found.listing.release.to_string();
    let had = context.device.generations(&info.name).await.is_ok_and(|all| all.iter().any(|g| g.record.release == hex));
    Candidate { name: info.name, held: info.held, up: info.state != "stopped", had, found }
}

/// What `status` says of softservices.
pub(super) async fn summary(context: &Context) -> Result<Value, Failure> {
    let newer = updatable(context).await?;
    let available =
        |l: &Listing| json!({ "version": l.version, "revision": l.revision, "release": l.release.to_string() });
    let mut all = Vec::new();
    for info in context.device.list().await? {
        let newest = newer.iter().find(|c| c.name == info.name).map(|c| available(&c.found.listing));
        let one = overlay::with_tasks(context, json!(info), &newer).await;
        let mut one = with_revocation(context, one).await?;
        one["available"] = json!(newest);
        all.push(one);
    }
    Ok(json!(all))
}

/// Releases that generations here need.
pub(super) async fn releases(context: &Context) -> Result<Vec<ReleaseId>, Failure> {
    Ok(context.device.pinned().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Known;
    use softservice_protocol::{
        feed::{FeedState, Revocation, RevokeLevel, Snapshot},
        id::Digest,
    };

    #[test]
    fn an_update_stays_on_the_channel_of_what_runs() {
        let publisher = PublisherId([1; 32]);
        let listing = |version: &str, channel: &str, id: u8| Listing {
            distro: "hello".into(),
            version: version.into(),
            revision: 0,
            channel: channel.into(),
            release: ReleaseId([id; 32]),
            size: 1,
            summary: String::new(),
            parents: Vec::new(),
            revoked: None,
        };
        let newest = |listings: &[Listing], runs: &Listing| {
            let snapshot = Snapshot { listings: listings.to_vec(), ..Snapshot::default() };
            let known = Known {
                root_version: 1,
                root_digest: Digest::ZERO,
                feed: FeedState { snapshot, ..FeedState::default() }.into(),
                term: None,
                own: false,
                signed: true,
                frozen: false,
                difference: None,
                unstated: false,
                behind: None,
                needs: None,
                promised: None,
                addresses: Vec::new(),
            };
            let (release, distro, version) = (runs.release, runs.distro.clone(), runs.version.clone());
            let origin = Origin { release, publisher, distro, version, revision: 0 };
            next(&Catalogue::from([(publisher, known)]), &origin).map(|found| found.listing.version)
        };
        let (mut stable, nightly) = (listing("1.0.0", "stable", 1), listing("99.0.0", "nightly", 2));
        assert_eq!(newest(&[stable.clone(), nightly.clone()], &stable), None);
        let withdrawn = Revocation { level: RevokeLevel::Withdraw, replaced_by: None, reason: "x".into() };
        stable.revoked = Some(withdrawn);
        assert_eq!(newest(&[stable.clone(), nightly.clone()], &stable), None, "nothing takes its place");
        let all = [stable.clone(), nightly.clone(), listing("1.0.1", "stable", 3), listing("99.1.0", "nightly", 4)];
        assert_eq!(newest(&all, &stable).as_deref(), Some("1.0.1"));
        // What is named in its place comes first where it is above and on the channel, and not at all elsewhere.
        let named = |id: u8| {
            let revoked =
                Revocation { level: RevokeLevel::Unsafe, replaced_by: Some(ReleaseId([id; 32])), reason: "x".into() };
            let runs = Listing { revoked: Some(revoked), ..stable.clone() };
            let all = [
                runs.clone(),
                nightly.clone(),
                listing("1.0.1", "stable", 3),
                listing("2.0.0", "stable", 5),
                listing("0.9.0", "stable", 6),
            ];
            newest(&all, &runs)
        };
        assert_eq!(named(3).as_deref(), Some("1.0.1"));
        for elsewhere in [2, 6] {
            assert_eq!(named(elsewhere).as_deref(), Some("2.0.0"));
        }
        assert_eq!(newest(&all, &nightly).as_deref(), Some("99.1.0"), "who chose it stays there");
        assert_eq!(
            newest(&all[1..], &listing("1.0.0", "stable", 9)).as_deref(),
            Some("1.0.1"),
            "of one not listed now"
        );
        // What was judged, and the owner has gone on meanwhile.
        let catalogue = Catalogue::new();
        let leads = |runs: &str, to: &Listing| {
            let release = ReleaseId([9; 32]);
            let origin = Origin { release, publisher, distro: "hello".into(), version: runs.into(), revision: 0 };
            leads_on(&catalogue, &origin, to)
        };
        let to = listing("1.2.0", "stable", 5);
        assert!(leads("1.1.9", &to) && leads("1.2.0-rc.1", &to));
        assert!(!leads("1.2.0", &to) && !leads("1.3.0", &to), "never sideways or back");
        assert!(leads("1.2.0", &Listing { revision: 1, ..to.clone() }));
        assert!(!leads("1.1.9", &Listing { distro: "other".into(), ..to }));
    }

    #[test]
    fn what_the_owner_can_mend_is_told_apart_from_what_failed() {
        let unknown = DeviceError::Unknown { name: "shelf".into() };
        assert_eq!(Failure::from(unknown).kind, Kind::NotFound);
        let held = DeviceError::Held { name: "shelf".into() };
        assert_eq!(Failure::from(held).kind, Kind::Refused);
        let unanswered = InstanceError::Unanswered { names: "domain".into() };
        let open = DeviceError::Instance { name: "shelf".into(), source: unanswered.into() };
        assert_eq!(Failure::from(open).kind, Kind::Usage);
    }
}
