//! Scenarios: TOML files that say what the world is like and what must come out of it.
//! Invariant: a scenario, a number of nodes and a seed are everything that a run depends on; unknown keys are errors.

use serde::{Deserialize, Serialize};

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither a built-in name nor a file.
    #[error("no scenario {name:?}; built in are {known}, or give the path of a .toml file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The text is not a scenario.
    #[error("scenario {name}: {source}")]
    Parse {
        /// Which.
        name: String,
        /// The parser's words.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("scenario {name}: {what}")]
    Senseless {
        /// Which.
        name: String,
        /// What, and what would.
        what: &'static str,
    },
}

/// The scenarios that come with the program: name and text.
pub const BUILT_IN: [(&str, &str); 9] = [
    ("spine", include_str!("../scenarios/spine.toml")),
    ("flash-crowd", include_str!("../scenarios/flash-crowd.toml")),
    ("partition", include_str!("../scenarios/partition.toml")),
    ("corrupters", include_str!("../scenarios/corrupters.toml")),
    ("flood", include_str!("../scenarios/flood.toml")),
    ("publisher-vanishes", include_str!("../scenarios/publisher-vanishes.toml")),
    ("crashes", include_str!("../scenarios/crashes.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("day", include_str!("../scenarios/day.toml")),
];

/// A world and its expectations. Times are virtual seconds, ranges are drawn from evenly, shares are 0 to 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Its name; taken from the file when absent.
    pub name: String,
    /// One line about it.
    pub about: String,
    /// Nodes, the publisher included.
    pub nodes: usize,
    /// The run fails when it is not over by then.
    pub limit: f64,
    /// What is published.
    pub content: Content,
    /// How nodes reach each other.
    pub network: NetworkSettings,
    /// Who means harm.
    pub actors: ActorSettings,
    /// Disks.
    pub disk: DiskSettings,
    /// Provisioning.
    pub device: DeviceSettings,
    /// Who comes and goes.
    pub schedule: Schedule,
    /// What must come out.
    pub expect: Expect,
}

/// What is published: one distro that includes another publisher's, in several versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Bytes of version 1 in MiB, the include among them.
    pub mib: f64,
    /// Versions.
    pub versions: usize,
    /// Chunks that a version takes over from the one before.
    pub shared: f64,
    /// When versions are published; one time for each.
    pub publish_at: Vec<f64>,
}

/// How nodes reach each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// One-way delay of a pair of nodes, drawn once for each pair.
    pub delay_ms: [f64; 2],
    /// Further delay of one message, up to this.
    pub jitter_ms: f64,
    /// Gossip copies that are lost.
    pub gossip_loss: f64,
    /// Gossip copies that come twice, past the duplicate filter.
    pub gossip_duplicate: f64,
    /// Neighbours that one node passes gossip on to.
    pub gossip_degree: usize,
    /// Breaks of each connection in an hour, on average.
    pub breaks_per_hour: f64,
    /// Upload rate in Mbit/s, drawn for each node.
    pub up_mbit: [f64; 2],
    /// Download rate in Mbit/s, drawn for each node.
    pub down_mbit: [f64; 2],
    /// The publisher's upload rate in Mbit/s; as for other nodes when absent.
    pub publisher_up_mbit: Option<f64>,
    /// Addresses that one question to the distributed hash table answers; 0 = there is none.
    pub found: usize,
    /// Times at which the nodes fall apart.
    pub partition: Vec<Partition>,
}

/// A split of the network, and its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Begin.
    pub at: f64,
    /// End.
    pub until: f64,
    /// Nodes on the side that is not the publisher's.
    pub share: f64,
}

/// Who means harm. Shares of all nodes but the publisher.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActorSettings {
    /// Serve wrong bytes.
    pub corrupters: f64,
    /// Send garbage by gossip and control messages, and floods of questions.
    pub flooders: f64,
    /// Accept connections and never answer.
    pub silent: f64,
    /// Claim to have everything.
    pub boasters: f64,
}

/// Disks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskSettings {
    /// Time until a record is durable.
    pub sync_ms: [f64; 2],
    /// Share of nodes whose disk is twenty times slower.
    pub slow: f64,
    /// Share of nodes whose disk fills up half way.
    pub full: f64,
}

/// Provisioning: each step of each generation draws its fate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSettings {
    /// Time that a step takes.
    pub step_ms: [f64; 2],
    /// Steps that fail at once.
    pub fail: f64,
    /// Steps that hang for 30 s, then fail.
    pub hang: f64,
    /// Steps during which the power goes.
    pub crash: f64,
}

/// Who comes and goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// When nodes join.
    pub join: [f64; 2],
    /// Share of nodes that join late.
    pub late: f64,
    /// When the late ones join.
    pub late_join: [f64; 2],
    /// Power cuts of each node in an hour, on average.
    pub crashes_per_hour: f64,
    /// No power cut begins after this.
    pub crashes_until: f64,
    /// How long a node stays away after a power cut.
    pub down_s: [f64; 2],
    /// Share of nodes that leave for good.
    pub leave: f64,
    /// When they leave.
    pub leave_at: [f64; 2],
    /// Clocks are wrong by up to so many seconds, either way.
    pub clock_skew_s: f64,
    /// The publisher leaves for good when so many others have the first version whole.
    pub publisher_leaves_after: Option<usize>,
}

/// What must come out. Absent = only reported.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Last completion as a multiple of the theoretical bound.
    pub last_over_bound: Option<f64>,
    /// Content bytes that the publisher sent, as copies of the release.
    pub seeder_copies: Option<f64>,
    /// Share of content bytes that came twice.
    pub duplicates: Option<f64>,
    /// Control and gossip bytes as a share of content bytes.
    pub overhead: Option<f64>,
    /// Seconds until 99 % of nodes know a head.
    pub head_p99: Option<f64>,
    /// Bytes wasted on each lie, at most.
    pub waste_per_lie: Option<u64>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            nodes: 200,
            limit: 1800.0,
            content: Content::default(),
            network: NetworkSettings::default(),
            actors: ActorSettings::default(),
            disk: DiskSettings::default(),
            device: DeviceSettings::default(),
            schedule: Schedule::default(),
            expect: Expect::default(),
        }
    }
}
impl Default for Content {
    fn default() -> Self {
        Self { mib: 16.0, versions: 1, shared: 0.8, publish_at: vec![1.0] }
    }
}
impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            delay_ms: [5.0, 50.0],
            jitter_ms: 5.0,
            gossip_loss: 0.0,
            gossip_duplicate: 0.0,
            gossip_degree: 8,
            breaks_per_hour: 0.0,
            up_mbit: [50.0, 50.0],
            down_mbit: [100.0, 100.0],
            publisher_up_mbit: None,
            found: 12,
            partition: Vec::new(),
        }
    }
}
impl Default for DiskSettings {
    fn default() -> Self {
        Self { sync_ms: [1.0, 10.0], slow: 0.0, full: 0.0 }
    }
}
impl Default for DeviceSettings {
    fn default() -> Self {
        Self { step_ms: [20.0, 200.0], fail: 0.0, hang: 0.0, crash: 0.0 }
    }
}
impl Default for Schedule {
    fn default() -> Self {
        Self {
            join: [0.0, 1.0],
            late: 0.0,
            late_join: [60.0, 120.0],
            crashes_per_hour: 0.0,
            crashes_until: 300.0,
            down_s: [2.0, 20.0],
            leave: 0.0,
            leave_at: [10.0, 120.0],
            clock_skew_s: 0.0,
            publisher_leaves_after: None,
        }
    }
}

impl Scenario {
    /// A built-in scenario by name, or one from a file.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if !name.ends_with(".toml") {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            return Err(ScenarioError::Unknown { name: name.into(), known });
        }
        let text = std::fs::read_to_string(name).map_err(|source| ScenarioError::Read { path: name.into(), source })?;
        Self::parse(name, &text)
    }

    /// Reads a scenario's text.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Parse { name: name.into(), source: Box::new(source) })?;
        if scenario.name.is_empty() {
            scenario.name = name.into();
        }
        scenario.sensible()?;
        Ok(scenario)
    }

    /// Whether it can be played as it stands now.
    ///
    /// # Errors
    /// [`ScenarioError::Senseless`] says what is wrong.
    pub fn sensible(&self) -> Result<(), ScenarioError> {
        match self.nonsense() {
            Some(what) => Err(ScenarioError::Senseless { name: self.name.clone(), what }),
            None => Ok(()),
        }
    }

    fn nonsense(&self) -> Option<&'static str> {
        let shares = [
            self.actors.corrupters + self.actors.flooders + self.actors.silent + self.actors.boasters,
            self.network.gossip_loss,
            self.network.gossip_duplicate,
            self.content.shared,
            self.schedule.late,
            self.schedule.leave,
            self.disk.full,
            self.disk.slow,
            self.device.fail + self.device.hang + self.device.crash,
        ];
        let rates = [self.network.up_mbit, self.network.down_mbit];
        if self.nodes < 2 {
            Some("nodes must be at least 2: a publisher and somebody who listens")
        } else if shares.iter().any(|s| !(0.0..=1.0).contains(s)) {
            Some("a share is not between 0 and 1")
        } else if rates.iter().any(|r| r[0] <= 0.0 || r[1] < r[0]) {
            Some("a rate is not above 0, or a range is upside down")
        } else if self.content.versions == 0 || self.content.publish_at.len() != self.content.versions {
            Some("content.publish_at must have one time for each of content.versions")
        } else if !self.content.publish_at.is_sorted() || self.content.mib <= 0.0 {
            Some("content.publish_at must ascend and content.mib be above 0")
        } else if self.network.partition.iter().any(|p| p.until <= p.at) {
            Some("a partition must end after it begins")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_scenarios_parse_and_unknown_keys_do_not() {
        for (name, _) in BUILT_IN {
            let scenario = Scenario::find(name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(scenario.name, name);
        }
        let error = Scenario::parse("x", "[network]\ngosip_loss = 0.1").expect_err("misspelt key accepted");
        assert!(error.to_string().contains("gosip_loss"), "{error}");
        assert!(matches!(Scenario::parse("x", "nodes = 1"), Err(ScenarioError::Senseless { .. })));
        assert!(matches!(Scenario::find("nothing"), Err(ScenarioError::Unknown { .. })));
    }
}
