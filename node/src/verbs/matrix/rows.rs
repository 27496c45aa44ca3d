//! The rows that need one node only. Invariant: each ends with what its owner would look at: it runs, its tests pass, and
//! what should be gone is gone.

use super::Bench;
use crate::device::PlanRequest;
use crate::verbs::{failure::Failure, provision, trial::NAME};
use softservice_protocol::release::{Param, ParamKind, ReleaseRef};
use std::{collections::BTreeMap, net::TcpListener, path::Path};

/// The second softservice of the same release.
const SECOND: &str = "test-two";

impl Bench<'_> {
    pub(super) async fn install(&self) -> Result<String, Failure> {
        self.place(&[self.release], async |place| self.install_at(place).await).await
    }

    /// Removed without its data, and provisioned again: the data is the same when it comes back.
    pub(super) async fn reinstall(&self) -> Result<String, Failure> {
        self.place(&[self.release], async |place| {
            self.install_at(place).await?;
            let device = place.context()?.device;
            device.down(NAME).await?;
            let kept = device.kept_volumes(NAME).await?;
            let before = device.volume_sums(NAME, kept.clone()).await?;
            device.remove(NAME, false).await?;
            let after = device.volume_sums(NAME, kept.clone()).await?;
            if before != after {
                return Err(Failure::failed("its data changed while it was removed"));
            }
            let seen = self.install_at(place).await?;
            Ok(format!("{seen}; {} volumes kept", kept.len()))
        })
        .await
    }

    /// Removed with its data: nothing of it is left.
    pub(super) async fn remove(&self) -> Result<String, Failure> {
        self.place(&[self.release], async |place| {
            self.install_at(place).await?;
            let device = place.context()?.device;
            let pids: Vec<i32> = device.info(NAME).await?.services.iter().filter_map(|s| s.pid).collect();
            device.remove(NAME, true).await?;
            let folder = place.home().join("softservices").join(NAME);
            if folder.exists() {
                return Err(Failure::failed(format!("{} is left", folder.display())));
            }
            let program = |pid: &i32| Path::new("/proc").join(pid.to_string()).exists();
            match pids.iter().find(|pid| program(pid)) {
                Some(pid) => Err(Failure::failed(format!("process {pid} of it is left"))),
                None => Ok(format!("{} services ended, nothing is left", pids.len())),
            }
        })
        .await
    }

    pub(super) async fn upgrade(&self, old: ReleaseRef) -> Result<String, Failure> {
        self.place(&[self.release, old], async |place| {
            let context = place.context()?;
            let document = crate::verbs::closure::load(&context, old).await?.root()?.clone();
            let answers = crate::verbs::throwaway::placeholders(&document);
            self.up(place, PlanRequest { answers, ..PlanRequest::new(NAME, old.id) }, old).await?;
            // Answers that were given stay; what is new is answered.
            let questions = context.device.questions(&PlanRequest::new(NAME, self.release.id)).await?;
            let answers = self.answers().into_iter().filter(|(n, _)| questions.iter().any(|q| q.name == *n)).collect();
            let request = PlanRequest { answers, ..PlanRequest::new(NAME, self.release.id) };
            self.up(place, request, self.release).await
        })
        .await
    }

    pub(super) async fn two(&self) -> Result<String, Failure> {
        self.place(&[self.release], async |place| {
            self.install_at(place).await?;
            let seen = self.up(place, self.request(SECOND), self.release).await?;
            let device = place.context()?.device;
            let (first, second) = (device.info(NAME).await?, device.info(SECOND).await?);
            if let Some(shared) = first.endpoints.iter().find(|e| second.endpoints.iter().any(|s| s.url == e.url)) {
                return Err(Failure::failed(format!("both answer at {}", shared.url)));
            }
            match first.state.as_str() {
                "running" => Ok(format!("{seen}, beside the first")),
                state => Err(Failure::failed(format!("the first is {state} since there are two"))),
            }
        })
        .await
    }

    /// Somebody else listens on every number that it wishes.
    pub(super) async fn port_taken(&self) -> Result<String, Failure> {
        if self.wishes.is_empty() {
            return Ok("it wishes no port".into());
        }
        let everywhere = |port: u16| TcpListener::bind(("0.0.0.0", port));
        // One that cannot be had is taken by somebody, which is what is wanted.
        let taken: Vec<TcpListener> = self.wishes.iter().filter_map(|port| everywhere(*port).ok()).collect();
        let seen = self.place(&[self.release], async |place| self.install_at(place).await).await?;
        drop(taken);
        Ok(format!("{seen} on other ports than {:?}", self.wishes))
    }

    /// Every parameter that has another value gets it; then all come back to what they were.
    pub(super) async fn parameters(&self) -> Result<String, Failure> {
        let others: BTreeMap<String, String> =
            self.document.params.iter().filter_map(|p| Some((p.name.clone(), other(p)?))).collect();
        if others.is_empty() {
            return Ok("it has no parameter with another value to try".into());
        }
        self.place(&[self.release], async |place| {
            self.install_at(place).await?;
            let changed = PlanRequest { answers: others.clone(), ..PlanRequest::new(NAME, self.release.id) };
            let seen = self.up(place, changed, self.release).await?;
            let context = place.context()?;
            let back = context.device.rollback_request(NAME, None).await?;
            let size = provision::size_of(&context, back.release).await?;
            let release = ReleaseRef { id: back.release, size };
            drop(context);
            self.up(place, back, release).await?;
            let names: Vec<&str> = others.keys().map(String::as_str).collect();
            Ok(format!("{seen} with another {}", names.join(", ")))
        })
        .await
    }
}

/// Another good answer, where one can be told from the type alone.
fn other(param: &Param) -> Option<String> {
    let now = param.default.clone().unwrap_or_default();
    match &param.kind {
        ParamKind::Bool => Some((now != "true").to_string()),
        ParamKind::Enum(of) => of.iter().find(|v| **v != now).cloned(),
        ParamKind::Text => Some(format!("{now} otherwise").trim().to_owned()),
        ParamKind::Int => {
            let now: i64 = now.parse().ok()?;
            let fits = |n: &i64| param.min.is_none_or(|m| *n >= m) && param.max.is_none_or(|m| *n <= m);
            [now.checked_add(1)?, now.checked_sub(1)?].into_iter().find(fits).map(|n| n.to_string())
        }
        // Another size, host or path may be wrong for reasons that no type tells.
        ParamKind::Size
        | ParamKind::Duration
        | ParamKind::Hostname
        | ParamKind::Port
        | ParamKind::Url
        | ParamKind::Path => None,
    }
}
