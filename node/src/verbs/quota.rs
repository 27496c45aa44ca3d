//! `quota`, and the question that every verb asks which brings content: is there room for it by the owner's limits? Invariant:
//! it is answered from signed sizes, before content is asked for; what is superfluous is swept first; what is here already
//! is never refused. Documents and manifests come before it, as they say how much there is to come.

use super::{
    care, closure, collect,
    failure::{Failure, Kind},
    fetch,
    reference::{Names, SELF},
    subscriptions,
};
use crate::{
    api::talk::Talk,
    context::Context,
    device,
    quota::{Coming, Limits, OverQuota, QuotaError, Weighed, Whose},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};
use softservice_protocol::{
    definition::units,
    id::{ObjectId, PublisherId, ReleaseId},
    io::{Depth, FetchFigures},
    release::ReleaseRef,
};
use softservice_store::{Store, StoreError, closure as content, manifests};
use std::collections::{BTreeMap, BTreeSet};

/// Sweeps for one who wants room: the first spares what was read in since the one before.
const SWEEPS: usize = 2;

impl From<QuotaError> for Failure {
    fn from(error: QuotaError) -> Self {
        match &error {
            QuotaError::Damaged { .. } => Self::new(Kind::Damaged, error.to_string())
                .hint("mend it by hand, or remove it and set the limits again; until then nothing is brought here"),
            QuotaError::Io { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<OverQuota> for Failure {
    fn from(over: OverQuota) -> Self {
        let enough = over.used.saturating_add(over.needed);
        // Rounded up, so that what is advised is enough.
        let enough = format!("{}MiB", enough.div_ceil(1 << 20));
        let raise = match over.whose {
            Whose::All => format!("`softservice quota --total {enough}`"),
            Whose::Publisher(_) => format!("`softservice quota {} {enough}`", over.name),
        };
        let hint = format!("{raise} allows it; `softservice unpin` and `softservice remove` give up what is here");
        Self::refused(over.to_string()).hint(hint).with(json!({ "over_quota": told(&over) }))
    }
}

fn told(over: &OverQuota) -> Value {
    let publisher = match over.whose {
        Whose::All => None,
        Whose::Publisher(id) => Some(id.to_string()),
    };
    json!({
        "publisher": publisher,
        "name": over.name,
        "release": over.release.to_string(),
        "quota": over.quota,
        "used": over.used,
        "needed": over.needed,
    })
}

/// A limit as it is set: bytes, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish(Option<u64>);

impl<'de> Deserialize<'de> for Wish {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Number(bytes) => bytes.as_u64().map(Some),
            Value::String(none) if none == "none" => Some(None),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| D::Error::custom("a quota is a number of bytes, or \"none\""))
    }
}

/// Sets one publisher's limit.
///
/// # Errors
/// It cannot be written.
pub(super) async fn limit(context: &Context, publisher: PublisherId, wish: Wish) -> Result<(), Failure> {
    Ok(context.quotas.set(&context.home, Whose::Publisher(publisher), wish.0).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quota {
    publisher: Option<String>,
    quota: Option<Wish>,
    total: Option<Wish>,
}

pub(super) async fn quota(context: &Context, args: Quota) -> Result<Value, Failure> {
    let names = Names::read(context)?;
    let one = args.publisher.as_deref().map(|name| names.publisher(name)).transpose()?;
    match (one, args.quota) {
        (Some(publisher), Some(wish)) => limit(context, publisher, wish).await?,
        (None, Some(_)) => {
            return Err(Failure::usage("a quota needs a publisher").hint("`total` is the limit of all together"));
        }
        (_, None) => {}
    }
    if let Some(wish) = args.total {
        context.quotas.set(&context.home, Whose::All, wish.0).await?;
    }
    let limits = Limits::read(&context.home)?;
    let mut publishers: BTreeSet<PublisherId> =
        subscriptions::read(&context.home)?.into_iter().map(|s| s.publisher).collect();
    publishers.extend(context.keys.publisher());
    publishers.extend(limits.0.keys().filter_map(|whose| match whose {
        Whose::Publisher(id) => Some(*id),
        Whose::All => None,
    }));
    if let Some(one) = one {
        publishers.retain(|id| *id == one);
        publishers.insert(one);
    }
    let mut used = used(context, publishers.iter().copied().collect()).await?;
    let row = |id: &PublisherId| {
        let mut row = json!({ "publisher": id.to_string(), "petname": names.of(*id), "used": used.remove(id) });
        row["quota"] = json!(limits.of(Whose::Publisher(*id)));
        row["refused"] = json!(context.quotas.refused(Whose::Publisher(*id)).as_ref().map(told));
        row
    };
    let rows: Vec<Value> = publishers.iter().map(row).collect();
    Ok(json!({ "total": total(context).await?, "publishers": rows }))
}

/// All of it: what is allowed and what is used.
pub(super) async fn total(context: &Context) -> Result<Value, Failure> {
    let store = closure::store(context);
    let used = closure::blocking(move || Ok(store.used(&BTreeSet::new())?)).await?;
    let quota = Limits::read(&context.home)?.of(Whose::All);
    let refused = context.quotas.refused(Whose::All);
    Ok(json!({ "quota": quota, "used": used, "refused": refused.as_ref().map(told) }))
}

/// Adds to what is said of each subscription what it may have here; and what it has, where there is a limit: else that would
/// be counted for nobody.
pub(super) async fn describe(context: &Context, rows: &mut [Value]) -> Result<(), Failure> {
    let limits = Limits::read(&context.home)?;
    let id = |row: &Value| row["publisher"].as_str().and_then(|id| id.parse::<PublisherId>().ok());
    let limited = rows.iter().filter_map(id).filter(|id| limits.of(Whose::Publisher(*id)).is_some());
    let used = used(context, limited.collect()).await?;
    for row in rows {
        let Some(id) = id(row) else { continue };
        row["quota"] = json!(limits.of(Whose::Publisher(id)));
        row["used"] = json!(used.get(&id));
        row["refused"] = json!(context.quotas.refused(Whose::Publisher(id)).as_ref().map(told));
    }
    Ok(())
}

/// Bytes here of each of these.
async fn used(context: &Context, publishers: Vec<PublisherId>) -> Result<BTreeMap<PublisherId, u64>, Failure> {
    if publishers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ledger = Ledger::read(context).await?;
    closure::blocking(move || {
        let books = Books::open(ledger)?;
        let used = publishers.into_iter().map(|id| Ok((id, sum(&books.here_of(id)?))));
        let used = used.collect::<Result<_, StoreError>>();
        manifests::forget();
        Ok(used?)
    })
    .await
}

/// Lets a release in, or refuses it. What it brought to know that comes along: documents and manifests.
///
/// # Errors
/// A limit would be passed also after a sweep; or why nobody can tell.
pub(super) async fn admit(
    context: &Context,
    release: ReleaseRef,
    talk: &Talk,
) -> Result<(Coming, Option<Box<FetchFigures>>), Failure> {
    {
        let _turn = context.quotas.turn().await;
        if Limits::read(&context.home)?.0.is_empty() {
            return Ok((context.quotas.let_in(release.id), None));
        }
    }
    let looked = Box::pin(fetch::transfer(context, release, Depth::Manifests, talk)).await?;
    let _turn = context.quotas.turn().await;
    decide(context, release.id, Bring::Fetch, talk).await?;
    Ok((context.quotas.let_in(release.id), Some(looked)))
}

/// Lets a release in that was read in here, before it is signed, or refuses it: all that it needs is here already.
///
/// # Errors
/// As [`admit`].
pub(super) async fn admit_own(context: &Context, release: ReleaseId, talk: &Talk) -> Result<Coming, Failure> {
    // A sweep that makes room leaves it alone.
    let _held = context.holds.keep(release);
    let _turn = context.quotas.turn().await;
    decide(context, release, Bring::Own, talk).await?;
    Ok(context.quotas.let_in(release))
}

/// How content comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bring {
    Fetch,
    Own,
}

/// Whoever calls it has the turn.
async fn decide(context: &Context, release: ReleaseId, how: Bring, talk: &Talk) -> Result<(), Failure> {
    let limits = Limits::read(&context.home)?;
    if limits.0.is_empty() {
        return Ok(());
    }
    let names = Names::read(context)?;
    let mut sweeps = 0;
    loop {
        let mut ledger = Ledger::read(context).await?;
        match how {
            Bring::Fetch => ledger.needed.insert(release),
            // What it adds to all the others is asked.
            Bring::Own => ledger.needed.remove(&release),
        };
        let limits = limits.clone();
        let all = closure::blocking(move || Ok(Books::open(ledger)?.weigh(release, how, &limits)?)).await?;
        if let Some(over) = all.iter().find(|weighed| !weighed.fits_swept()) {
            let over = refusal(over, release, &names);
            context.quotas.refuse(over.clone());
            // No fetch goes on that would need them.
            manifests::forget();
            return Err(over.into());
        }
        if sweeps == SWEEPS || all.iter().all(Weighed::fits) {
            context.quotas.forgive(all.iter().map(|weighed| weighed.whose));
            return Ok(());
        }
        if sweeps == 0 {
            talk.note("what nothing here needs is swept, to make room by your quotas").await;
        }
        sweeps += 1;
        Box::pin(collect::gc(context, talk)).await?;
    }
}

fn refusal(weighed: &Weighed, release: ReleaseId, names: &Names) -> OverQuota {
    let name = match weighed.whose {
        Whose::All => "everything here together".into(),
        Whose::Publisher(id) => match names.of(id) {
            // A number that nobody can type is no name.
            short if short == id.short() => id.to_string(),
            own if own == SELF => SELF.into(),
            petname => petname,
        },
    };
    let Weighed { whose, quota, kept, needed, .. } = *weighed;
    tracing::warn!(name, quota = units::bytes(quota), "a release is refused: its publisher's quota is used up");
    OverQuota { whose, name, release, quota, used: kept, needed }
}

/// What there is to know of a node before anything is counted.
struct Ledger {
    store: std::sync::Arc<dyn Store>,
    /// What a sweep keeps: roots, what verbs hold, who was let in.
    needed: BTreeSet<ReleaseId>,
    /// Who was let in before.
    coming: Vec<ReleaseId>,
    /// Who lists what.
    listed: BTreeMap<PublisherId, BTreeSet<ReleaseId>>,
}

impl Ledger {
    async fn read(context: &Context) -> Result<Self, Failure> {
        let coming = context.quotas.coming();
        let mut needed: BTreeSet<ReleaseId> = care::roots(context).await?.all().collect();
        needed.extend(context.holds.still().releases());
        needed.extend(&coming);
        let listed = context
            .handle
            .catalogue()
            .into_iter()
            .map(|(id, known)| (id, known.feed.snapshot.listings.iter().map(|l| l.release).collect()));
        Ok(Self { store: closure::store(context), needed, coming, listed: listed.collect() })
    }
}

/// The same, with whom each release counts for.
struct Books {
    ledger: Ledger,
    platform: String,
    /// Releases that count for a publisher: what it lists, and what it made of any closure that is known.
    of: BTreeMap<PublisherId, BTreeSet<ReleaseId>>,
    /// The same, of what a sweep keeps only.
    kept: BTreeMap<PublisherId, BTreeSet<ReleaseId>>,
}

type Sizes = BTreeMap<ObjectId, u64>;

fn sum(sizes: &Sizes) -> u64 {
    sizes.values().fold(0, |sum, size| sum.saturating_add(*size))
}

impl Books {
    fn open(ledger: Ledger) -> Result<Self, StoreError> {
        let (mut of, mut kept) = (ledger.listed.clone(), BTreeMap::<PublisherId, BTreeSet<ReleaseId>>::new());
        for (publisher, listed) in &ledger.listed {
            kept.insert(*publisher, listed.intersection(&ledger.needed).copied().collect());
        }
        let listed = ledger.listed.values().flatten();
        for release in ledger.needed.iter().chain(listed) {
            for (member, publisher) in members(ledger.store.as_ref(), *release)? {
                of.entry(publisher).or_default().insert(member);
                if ledger.needed.contains(release) {
                    kept.entry(publisher).or_default().insert(member);
                }
            }
        }
        Ok(Self { ledger, platform: device::platform(), of, kept })
    }
    fn has(&self, object: &ObjectId) -> bool {
        self.ledger.store.has_object(*object)
    }
    /// Everything of these that is here.
    fn here(&self, releases: impl IntoIterator<Item = ReleaseId>) -> Result<Sizes, StoreError> {
        let mut all = Sizes::new();
        for release in releases {
            all.extend(sizes(self.ledger.store.as_ref(), release, None)?);
        }
        all.retain(|object, _| self.has(object));
        Ok(all)
    }
    /// Everything here that counts for a publisher.
    fn here_of(&self, publisher: PublisherId) -> Result<Sizes, StoreError> {
        self.here(self.of.get(&publisher).into_iter().flatten().copied())
    }
    /// What of these this device brings, whether or not it is here.
    fn brought(&self, releases: impl IntoIterator<Item = ReleaseId>) -> Result<Sizes, StoreError> {
        let mut all = Sizes::new();
        for release in releases {
            all.extend(sizes(self.ledger.store.as_ref(), release, Some(&self.platform))?);
        }
        Ok(all)
    }
    /// Those of a closure that count for a publisher: all of it where it lists the whole.
    fn share(&self, release: ReleaseId, publisher: PublisherId) -> Result<Vec<ReleaseId>, StoreError> {
        if self.ledger.listed.get(&publisher).is_some_and(|listed| listed.contains(&release)) {
            return Ok(vec![release]);
        }
        let members = members(self.ledger.store.as_ref(), release)?.into_iter();
        Ok(members.filter(|(_, maker)| *maker == publisher).map(|(member, _)| member).collect())
    }
    /// A release beside every limit.
    fn weigh(&self, release: ReleaseId, how: Bring, limits: &Limits) -> Result<Vec<Weighed>, StoreError> {
        let one = |(whose, quota): (&Whose, &u64)| match whose {
            Whose::All => self.weigh_all(release, how, *quota),
            Whose::Publisher(publisher) => self.weigh_one(release, how, *publisher, *quota),
        };
        limits.0.iter().map(one).collect()
    }
    /// What these bring with them that nothing else needs.
    fn brings(&self, releases: Vec<ReleaseId>, how: Bring, kept: &Sizes) -> Result<Sizes, StoreError> {
        let mut new = match how {
            Bring::Fetch => self.brought(releases)?,
            Bring::Own => self.here(releases)?,
        };
        new.retain(|object, _| !kept.contains_key(object) && (how == Bring::Own || !self.has(object)));
        Ok(new)
    }
    fn weigh_one(
        &self,
        release: ReleaseId,
        how: Bring,
        publisher: PublisherId,
        quota: u64,
    ) -> Result<Weighed, StoreError> {
        let mut coming = Vec::new();
        for other in &self.ledger.coming {
            coming.extend(self.share(*other, publisher)?);
        }
        let coming = self.brought(coming)?;
        let mut kept = self.here(self.kept.get(&publisher).into_iter().flatten().copied())?;
        kept.extend(&coming);
        let new = self.brings(self.share(release, publisher)?, how, &kept)?;
        let mut full = self.here_of(publisher)?;
        full.extend(coming);
        full.extend(&new);
        let whose = Whose::Publisher(publisher);
        Ok(Weighed { whose, quota, kept: sum(&kept), needed: sum(&new), full: sum(&full) })
    }
    fn weigh_all(&self, release: ReleaseId, how: Bring, quota: u64) -> Result<Weighed, StoreError> {
        let store = self.ledger.store.as_ref();
        let mut coming = self.brought(self.ledger.coming.iter().copied())?;
        coming.retain(|object, _| !self.has(object));
        let mut kept = self.here(self.ledger.needed.iter().copied())?;
        kept.extend(&coming);
        let new = self.brings(vec![release], how, &kept)?;
        // What has come so far of what is on its way is part of what that counts.
        let stored = store.used(&coming.keys().chain(new.keys()).copied().collect())?;
        let beside = stored.saturating_sub(store.totals()?.1);
        let needed = sum(&new);
        let full = stored.saturating_add(sum(&coming)).saturating_add(if how == Bring::Fetch { needed } else { 0 });
        Ok(Weighed { whose: Whose::All, quota, kept: sum(&kept).saturating_add(beside), needed, full })
    }
}

/// A release that breaks the rules counts for nobody: a fetch of it ends by itself.
fn lenient<T: Default>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    match result {
        Err(StoreError::Closure { .. } | StoreError::Codec(_) | StoreError::Tree(_) | StoreError::Unsound { .. }) => {
            Ok(T::default())
        }
        other => other,
    }
}

fn members(store: &dyn Store, release: ReleaseId) -> Result<Vec<(ReleaseId, PublisherId)>, StoreError> {
    lenient(content::members(store, release))
}

fn sizes(store: &dyn Store, release: ReleaseId, platform: Option<&str>) -> Result<Sizes, StoreError> {
    lenient(content::sizes(store, release, platform))
}
