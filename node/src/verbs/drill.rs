//! `test --restore`: the restore drill. Invariant: what is restored is restored into a home that never saw it, with nothing of
//! the old one but the backup and the key that opens it; volumes are compared before anything is started on them, and what
//! was not proven is said.
//!
//! Data is what the softservice and its own tests write: a test with `when = ["install"]` may write what one with
//! `when = ["restore"]` looks for.

use super::{
    backup::{self, Wanted},
    failure::Failure,
    provision,
    throwaway::{self, Throwaway, register::Folder},
    trial::{self, NAME, Test},
};
use crate::{
    Config, Context,
    api::talk::Talk,
    device::{BackupRecord, BackupRequest, PlanRequest},
    shutdown::Stop,
};
use serde_json::{Value, json};
use softservice_protocol::release::ReleaseRef;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

/// What a drill works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    /// Where the release is, for both homes to fetch it from.
    pub(super) source: &'a Context,
    pub(super) config: &'a Config,
    pub(super) gone: &'a Stop,
    pub(super) release: ReleaseRef,
    pub(super) answers: &'a BTreeMap<String, String>,
    pub(super) talk: &'a Talk,
}

/// A backup, away from the home that it was made in.
struct Rescued {
    record: BackupRecord,
    key: PathBuf,
}

/// What came of a drill so far.
#[derive(Debug, Default)]
pub(super) struct Drill {
    /// The distro's tests before and after, and the steps between them.
    tests: Vec<Value>,
    volumes: Vec<Value>,
    hooks: Vec<String>,
    backup: Value,
    /// What it could not prove, for people.
    unproven: Vec<String>,
}

/// The verb.
pub(super) async fn run(context: &Context, args: &Test, talk: &Talk, gone: &Stop) -> Result<Value, Failure> {
    let config = context.config.clone();
    // Its places are cut off one by one: cut off here, they could not clean up.
    Throwaway::with(&config, &Stop::default(), async |place| {
        let source = place.context()?;
        let prepared = gone.or(async {
            let subject = trial::subject(context, &source, args, talk).await?;
            subject.refuse_unasked(&source, &[], args).await?;
            let release = subject.release;
            let document = super::closure::load(&source, release).await?.root()?.clone();
            Ok::<_, Failure>((release, throwaway::placeholders(&document)))
        });
        let (release, answers) = prepared.await.unwrap_or_else(|| Err(throwaway::abandoned()))?;
        let ground = Ground { source: &source, config: &config, gone, release, answers: &answers, talk };
        let drill = ground.drill().await?;
        for line in &drill.unproven {
            talk.note(format!("not proven: {line}")).await;
        }
        Ok(drill.answer())
    })
    .await
}

impl Ground<'_> {
    /// From the first start in one home to the tests in another.
    ///
    /// # Errors
    /// Nobody waits for it any more, or a place could not be made. What fails of the softservice is in the drill.
    pub(super) async fn drill(&self) -> Result<Drill, Failure> {
        let scratch = Folder::make(&self.config.home)?;
        let outcome = self.by_way_of(scratch.path()).await;
        scratch.remove()?;
        outcome
    }

    /// With a folder for the backup.
    async fn by_way_of(&self, scratch: &Path) -> Result<Drill, Failure> {
        let mut drill = Drill::default();
        self.talk.note("drill: a first home").await;
        let rescued = Throwaway::with(self.config, self.gone, async |place| {
            Box::pin(self.live_and_back_up(&place.context()?, scratch, &mut drill)).await
        })
        .await?;
        // The first home is gone: its folder was removed, or the line above is an error.
        if let Some(rescued) = rescued {
            self.talk.note("drill: restoring in a home of its own").await;
            Throwaway::with(self.config, self.gone, async |place| {
                Box::pin(self.bring_back(&place.context()?, &rescued, &mut drill)).await
            })
            .await?;
        }
        Ok(drill)
    }

    /// None when it did not come so far.
    async fn live_and_back_up(
        &self,
        context: &Context,
        scratch: &Path,
        drill: &mut Drill,
    ) -> Result<Option<Rescued>, Failure> {
        throwaway::hand_over(self.source, context, &[self.release], &Talk::alone()).await?;
        let request = PlanRequest { answers: self.answers.clone(), ..PlanRequest::new(NAME, self.release.id) };
        let outcome = provision::try_out(context, request, self.release, self.talk).await?;
        if !drill.took_part("install", &outcome) {
            return Ok(None);
        }
        let began = Instant::now();
        let request = BackupRequest {
            name: NAME.into(),
            file: scratch.join("drill.softbackup"),
            witness: true,
            ..BackupRequest::default()
        };
        let record = match context.device.backup(request, Arc::new(|_, _, _| {})).await {
            Ok(record) => record,
            Err(error) => {
                drill.step("backup", "", began, Err(error.to_string()));
                return Ok(None);
            }
        };
        let said = format!("{} bytes, {}", record.bytes, record.verified);
        drill.step("backup", "", began, Ok(said));
        drill.backup = json!({ "bytes": record.bytes, "blake3": record.blake3, "verified": record.verified });
        let key = scratch.join("key");
        // All that an owner keeps of the home, beside the backup.
        let kept = record.key_file.clone().ok_or_else(|| Failure::failed("the backup has no key of the home's own"))?;
        tokio::fs::copy(kept, &key).await?;
        Ok(Some(Rescued { record, key }))
    }

    async fn bring_back(&self, context: &Context, rescued: &Rescued, drill: &mut Drill) -> Result<(), Failure> {
        throwaway::hand_over(self.source, context, &[self.release], &Talk::alone()).await?;
        let (began, record) = (Instant::now(), &rescued.record);
        let wanted = Wanted::drilled(NAME, &record.file, &rescued.key, record.sums.clone());
        let outcome = async {
            let prepared = backup::prepare(context, &wanted, &Talk::alone()).await?;
            Box::pin(provision::try_prepared(context, prepared, &Talk::alone())).await
        };
        let outcome = match outcome.await {
            Ok(outcome) => outcome,
            Err(failure) => {
                drill.step("restore", "", began, Err(failure.message));
                return Ok(());
            }
        };
        if outcome["state"] == "running" || outcome["tests"].as_array().is_some_and(|tests| !tests.is_empty()) {
            // It came to its tests, so what was put in its place was what it had been: see `Restore::expect`.
            drill.step("restore", "", began, Ok("in a home that never saw it".into()));
            drill.compared(record);
        }
        drill.took_part("restore", &outcome);
        Ok(())
    }
}

impl Drill {
    /// Takes the results of a generation's tests; whether it held.
    fn took_part(&mut self, when: &str, outcome: &Value) -> bool {
        let tests = outcome["tests"].as_array().cloned().unwrap_or_default();
        let failed = tests.iter().any(|t| t["ok"].as_bool() != Some(true));
        if when == "restore" && tests.is_empty() {
            self.unproven.push("no test looks at it after a restore: it came up healthy, nothing more is known".into());
        }
        for mut test in tests {
            test["when"] = when.into();
            self.tests.push(test);
        }
        let holds = outcome["state"] == "running";
        if !holds && !failed {
            // It did not come to its tests: nothing else says so.
            let why = outcome["why"].as_str().unwrap_or("it did not become healthy").to_owned();
            self.step(when, "", Instant::now(), Err(why));
        }
        holds && !failed
    }

    fn step(&mut self, name: &str, role: &str, began: Instant, outcome: Result<String, String>) {
        let (ok, output) = match outcome {
            Ok(seen) => (true, seen),
            Err(why) => (false, why),
        };
        let seconds = began.elapsed().as_secs_f64();
        self.tests.push(json!({
            "name": name, "role": role, "ok": ok, "seconds": seconds, "output": output, "when": "drill",
        }));
    }

    /// Writes down what was compared, and what there was to compare.
    fn compared(&mut self, record: &BackupRecord) {
        for (volume, sum) in &record.sums {
            self.volumes.push(json!({
                "volume": volume, "entries": sum.entries, "bytes": sum.bytes, "blake3": sum.blake3, "same": true,
            }));
            if sum.bytes == 0 {
                self.unproven.push(format!(
                    "no byte was in volume {volume}: a test with when = [\"install\"] may write what one with when = [\"restore\"] looks for"
                ));
            }
        }
        self.hooks.clone_from(&record.hooks);
        if record.sums.is_empty() && record.hooks.is_empty() {
            self.unproven.push("no data of it goes into a backup".into());
        }
    }

    /// As the verb answers.
    fn answer(&self) -> Value {
        let failed = self.tests.iter().filter(|t| t["ok"].as_bool() != Some(true)).count();
        json!({
            "passed": self.tests.len() - failed,
            "failed": failed,
            "tests": self.tests,
            "restore": {
                "backup": self.backup, "volumes": self.volumes, "hooks": self.hooks, "unproven": self.unproven,
            },
        })
    }

    /// In one line, as a row of the matrix says it.
    ///
    /// # Errors
    /// The first thing that failed.
    pub(super) fn told(&self) -> Result<String, Failure> {
        let text = |test: &Value, key: &str| test[key].as_str().unwrap_or_default().to_owned();
        if let Some(bad) = self.tests.iter().find(|t| t["ok"].as_bool() != Some(true)) {
            let (when, name, output) = (text(bad, "when"), text(bad, "name"), text(bad, "output"));
            return Err(Failure::failed(format!("{when}: {name}: {output}")));
        }
        let after = self.tests.iter().filter(|t| t["when"] == "restore").count();
        let looked =
            if after == 0 { "no test looks at it afterwards".into() } else { format!("{after} tests passed after it") };
        let mut said = format!("{looked}; {} volumes as they were", self.volumes.len());
        if !self.hooks.is_empty() {
            said.push_str(&format!("; data of {} by its own program", self.hooks.join(", ")));
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::VolumeSum;

    fn ran(state: &str, ok: bool) -> Value {
        json!({ "state": state, "tests": [{ "name": "greets", "role": "main", "ok": ok, "seconds": 0.1, "output": "" }] })
    }

    #[test]
    fn what_fails_is_told_and_what_was_not_proven_too() {
        let mut drill = Drill::default();
        assert!(drill.took_part("install", &ran("running", true)));
        drill.step("backup", "", Instant::now(), Ok("1 bytes, opened".into()));
        assert!(drill.took_part("restore", &json!({ "state": "running", "tests": [] })));
        assert_eq!(drill.unproven.len(), 1, "nobody looked: {:?}", drill.unproven);
        assert!(drill.told().is_ok());

        assert!(!drill.took_part("restore", &json!({ "state": "reverted", "why": "stage: it differs" })));
        assert!(drill.told().expect_err("it did not come up").message.contains("stage: it differs"));
        let answer = drill.answer();
        assert_eq!((&answer["passed"], &answer["failed"]), (&json!(2), &json!(1)), "{answer}");
        assert!(!Drill::default().took_part("install", &ran("reverted", false)));
    }

    #[test]
    fn an_empty_volume_proves_nothing() {
        let sum = |bytes| VolumeSum { entries: 2, bytes, blake3: "00".into() };
        let mut drill = Drill::default();
        drill.compared(&record([("main.empty".into(), sum(0)), ("main.full".into(), sum(2))].into()));
        let [only] = &drill.unproven[..] else { panic!("{:?}", drill.unproven) };
        assert!(only.contains("main.empty"), "{only}");
        let mut drill = Drill::default();
        drill.compared(&record(BTreeMap::new()));
        assert_eq!(drill.unproven, ["no data of it goes into a backup"]);
    }

    fn record(sums: BTreeMap<String, VolumeSum>) -> BackupRecord {
        BackupRecord {
            softservice: NAME.into(),
            file: "drill".into(),
            bytes: 1,
            blake3: "00".into(),
            made_at: 0,
            distro: "shelf".into(),
            version: "1.0.0".into(),
            release: "00".into(),
            volumes: sums.keys().cloned().collect(),
            hooks: Vec::new(),
            recipients: Vec::new(),
            key_file: None,
            verified: "opened".into(),
            sums,
        }
    }
}
