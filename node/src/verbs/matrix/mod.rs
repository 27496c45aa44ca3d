//! `test --matrix`: what owners do with a softservice, done with every distro without its author writing a line: install,
//! reinstall, remove, upgrade from earlier releases, a backup brought back elsewhere, two at once, ports taken, other
//! answers, and a crash in the middle.
//! Invariant: each row has a throwaway place of its own and stands for itself; one that fails does not hide the others.

mod crash;
mod rows;

use super::{
    closure, drill,
    failure::Failure,
    fetch, provision,
    reference::{self, SELF},
    throwaway::{self, Throwaway},
    trial::{self, NAME, Test},
};
use crate::{Config, Context, api::talk::Talk, device::PlanRequest, shutdown::Stop};
use semver::Version;
use serde::Serialize;
use serde_json::{Value, json};
use softservice_protocol::{
    id::PublisherId,
    io::Depth,
    release::{Release, ReleaseRef},
};
use std::{collections::BTreeMap, time::Instant};

/// From how many earlier releases an upgrade is tried when nobody says.
const RELEASES: usize = 3;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    name: String,
    ok: bool,
    seconds: f64,
    /// What was seen; of a row that failed, why.
    output: String,
}

/// What all rows work with.
#[derive(Debug)]
struct Bench<'a> {
    /// Where releases are, for every place to fetch them from.
    source: Context,
    config: &'a Config,
    gone: &'a Stop,
    talk: &'a Talk,
    /// What is tested.
    release: ReleaseRef,
    document: Release,
    /// Wished port numbers of all roles.
    wishes: Vec<u16>,
    /// Earlier releases, newest first, with their versions.
    older: Vec<(String, ReleaseRef)>,
}

/// Runs all rows.
pub(super) async fn run(
    context: &Context,
    args: &Test,
    releases: Option<usize>,
    talk: &Talk,
    gone: &Stop,
) -> Result<Value, Failure> {
    let config = context.config.clone();
    // Rows are cut off one by one, in their own places: cut off here, none of them could clean up.
    Throwaway::with(&config, &Stop::default(), async |place| {
        let source = place.context()?;
        let prepared = gone.or(prepare(context, &source, args, releases.unwrap_or(RELEASES), talk)).await;
        let (release, document, older) = prepared.unwrap_or_else(|| Err(throwaway::abandoned()))?;
        let wishes = wishes(&source, release, &document).await?;
        let bench = Bench { source, config: &config, gone, talk, release, document, wishes, older };
        let rows = bench.rows().await?;
        let failed = rows.iter().filter(|r| !r.ok).count();
        Ok(json!({ "passed": rows.len() - failed, "failed": failed, "matrix": rows }))
    })
    .await
}

/// What is tested, and what it may be upgraded from, where every row fetches them.
async fn prepare(
    context: &Context,
    source: &Context,
    args: &Test,
    releases: usize,
    talk: &Talk,
) -> Result<(ReleaseRef, Release, Vec<(String, ReleaseRef)>), Failure> {
    let subject = trial::subject(context, source, args, talk).await?;
    let release = subject.release;
    let document = closure::load(source, release).await?.root()?.clone();
    let older = earlier(context, args, (release, &document), releases).await?;
    for (_, old) in &older {
        fetch::bring(context, *old, Depth::Content, talk).await?;
        throwaway::hand_over(context, source, &[*old], talk).await?;
    }
    let old: Vec<ReleaseRef> = older.iter().map(|(_, old)| *old).collect();
    subject.refuse_unasked(source, &old, args).await?;
    Ok((release, document, older))
}

/// Published releases of the same distro by the same publisher on the same channel, older than what is tested, newest first.
async fn earlier(
    context: &Context,
    args: &Test,
    (release, document): (ReleaseRef, &Release),
    most: usize,
) -> Result<Vec<(String, ReleaseRef)>, Failure> {
    reference::refresh(context).await?;
    // A folder is this home's own; what was compiled of it in a throwaway place bears that place's name.
    let publisher: Option<PublisherId> = match args.dir {
        Some(_) => reference::Names::read(context)?.publisher(SELF).ok(),
        None => Some(document.publisher),
    };
    let catalogue = context.handle.catalogue();
    let Some(known) = publisher.and_then(|p| catalogue.get(&p)) else { return Ok(Vec::new()) };
    let order = |version: &str, revision: u32| Version::parse(version).ok().map(|v| (v, revision));
    let now = order(&document.version, document.revision);
    let snapshot = &known.feed.snapshot;
    let channel = snapshot.listings.iter().find(|l| l.release == release.id).map(|l| l.channel.as_str());
    let mut older: Vec<_> = snapshot.offered(&document.distro, channel).filter(|l| l.revoked.is_none()).collect();
    older.retain(|l| order(&l.version, l.revision) < now);
    older.sort_by_key(|l| std::cmp::Reverse(order(&l.version, l.revision)));
    let of = |l: &softservice_protocol::feed::Listing| ReleaseRef { id: l.release, size: l.size };
    Ok(older.into_iter().take(most).map(|l| (l.version.clone(), of(l))).collect())
}

async fn wishes(context: &Context, release: ReleaseRef, document: &Release) -> Result<Vec<u16>, Failure> {
    let all = closure::load(context, release).await?.releases().clone();
    let answers = throwaway::placeholders(document);
    let needs = softservice_protocol::instance::needs(&all, release.id, &answers, &crate::device::platform());
    let needs = needs.map_err(|e| Failure::failed(e.to_string()))?;
    Ok(needs.ports.iter().filter_map(|p| p.wish).collect())
}

impl Bench<'_> {
    async fn rows(&self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        self.row(&mut rows, "install", self.install()).await?;
        self.row(&mut rows, "reinstall", self.reinstall()).await?;
        self.row(&mut rows, "remove", self.remove()).await?;
        for (version, old) in &self.older {
            self.row(&mut rows, &format!("upgrade from {version}"), self.upgrade(*old)).await?;
        }
        self.row(&mut rows, "backup and restore", self.restore()).await?;
        self.row(&mut rows, "two instances", self.two()).await?;
        self.row(&mut rows, "port taken", self.port_taken()).await?;
        self.row(&mut rows, "parameter change", self.parameters()).await?;
        self.row(&mut rows, "crash during switch", self.crash()).await?;
        Ok(rows)
    }

    /// Does a row and writes down what came of it. An error only when nobody waits for it any more.
    async fn row(
        &self,
        rows: &mut Vec<Row>,
        name: &str,
        work: impl Future<Output = Result<String, Failure>>,
    ) -> Result<(), Failure> {
        self.talk.note(format!("matrix: {name}")).await;
        let began = Instant::now();
        let outcome = work.await;
        if let (true, Err(failure)) = (self.gone.asked(), &outcome) {
            return Err(failure.clone());
        }
        let (ok, output) = match outcome {
            Ok(seen) => (true, seen),
            Err(failure) => (false, failure.message),
        };
        rows.push(Row { name: name.into(), ok, seconds: began.elapsed().as_secs_f64(), output });
        Ok(())
    }

    /// A new place that has the releases.
    async fn place<T>(
        &self,
        releases: &[ReleaseRef],
        work: impl AsyncFnOnce(&mut Throwaway) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        Throwaway::with(self.config, self.gone, async |place| {
            throwaway::hand_over(&self.source, &place.context()?, releases, &Talk::alone()).await?;
            work(place).await
        })
        .await
    }

    /// Backed up in one home, brought back in another that never saw it.
    async fn restore(&self) -> Result<String, Failure> {
        let (answers, talk) = (self.answers(), Talk::alone());
        let ground = drill::Ground {
            source: &self.source,
            config: self.config,
            gone: self.gone,
            release: self.release,
            answers: &answers,
            talk: &talk,
        };
        // Two lives in one: beside the other rows they are too much for a thread's stack.
        Box::pin(ground.drill()).await?.told()
    }

    fn answers(&self) -> BTreeMap<String, String> {
        throwaway::placeholders(&self.document)
    }

    fn request(&self, name: &str) -> PlanRequest {
        PlanRequest { answers: self.answers(), ..PlanRequest::new(name, self.release.id) }
    }

    /// Provisions and looks that it runs and that its tests passed; what was seen.
    async fn up(&self, place: &Throwaway, request: PlanRequest, release: ReleaseRef) -> Result<String, Failure> {
        let outcome = provision::try_out(&place.context()?, request, release, &Talk::alone()).await?;
        let verdict = trial::verdict(&outcome)?;
        let failed = verdict["failed"].as_u64().unwrap_or(1);
        if failed > 0 || outcome["state"] != "running" {
            let bad = |t: &&Value| t["ok"].as_bool() != Some(true);
            let first = verdict["tests"].as_array().and_then(|all| all.iter().find(bad).cloned()).unwrap_or_default();
            let text = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
            return Err(Failure::failed(format!("{failed} tests failed: {}: {}", text("name"), text("output"))));
        }
        Ok(format!("{} tests passed", verdict["passed"]))
    }

    /// Provisions what is tested, as a new owner would.
    async fn install_at(&self, place: &Throwaway) -> Result<String, Failure> {
        self.up(place, self.request(NAME), self.release).await
    }
}
