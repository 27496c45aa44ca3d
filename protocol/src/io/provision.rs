//! The life of a generation as inputs, steps and events. Invariant: an effect is safe to repeat, and is journaled before it
//! is done.

use serde::{Deserialize, Serialize};

/// A generation: the softservice's name and its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// The softservice.
    pub name: String,
    /// Its number, from 1.
    pub number: u32,
}

/// One step of a generation's life: an effect on the device, safe to repeat, journaled before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionStep {
    /// Whose life.
    pub generation: Generation,
    /// The generation that was current before, if any.
    pub previous: Option<u32>,
    /// What to do.
    pub effect: Effect,
}

/// The effects, in the order of a good life; then the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Materialise trees, render files, make secrets, check ports: nothing that runs is touched.
    Stage,
    /// Start the services of roles that change start-first, on inner ports, and ask their health; the old ones still serve.
    Beside,
    /// Stop the previous services of roles that change stop-first, newest dependency first.
    StopPrevious,
    /// Keep a copy of the data of those roles, whole and synced.
    Snapshot,
    /// Carry the data over to the new layout.
    Migrate,
    /// Make it current: rename the pointer, sync the folder.
    Point,
    /// Start its remaining services, dependencies first.
    Start,
    /// Turn the fronts to its services; the previous start-first services still run.
    HandOver,
    /// Health, tests, and `settle`.
    Confirm,
    /// Write it down as good; then what it replaced is stopped, and older generations may go.
    Commit,
    /// Way back: turn the fronts to the previous services.
    HandBack,
    /// Way back: stop the new services.
    StopNew,
    /// Way back: the data as it was kept, bit by bit.
    RestoreData,
    /// Way back: point to the previous generation, or to none.
    PointBack,
    /// Way back: start the previous services that were stopped.
    StartPrevious,
    /// Way back: write it down as failed; its logs stay.
    MarkFailed,
}

impl Effect {
    /// Whether it belongs to the way back. Such a step is tried [`crate::machine::provision::TRIES`] times.
    pub fn is_way_back(self) -> bool {
        self >= Self::HandBack
    }
    /// Whether the way back goes on when this cannot be done: a front that does not turn must not keep data from coming
    /// back. [`Self::StartPrevious`] turns it again.
    pub fn may_fail(self) -> bool {
        self == Self::HandBack
    }
    /// Whether a life is over when this is done.
    pub fn ends_life(self) -> bool {
        matches!(self, Self::Commit | Self::MarkFailed)
    }
    /// Its one word in journals, figures and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Beside => "beside",
            Self::StopPrevious => "stop_previous",
            Self::Snapshot => "snapshot",
            Self::Migrate => "migrate",
            Self::Point => "point",
            Self::Start => "start",
            Self::HandOver => "hand_over",
            Self::Confirm => "confirm",
            Self::Commit => "commit",
            Self::HandBack => "hand_back",
            Self::StopNew => "stop_new",
            Self::RestoreData => "restore_data",
            Self::PointBack => "point_back",
            Self::StartPrevious => "start_previous",
            Self::MarkFailed => "mark_failed",
        }
    }
}

/// What happens to generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisionInput {
    /// The owner said yes to a plan: begin this generation.
    Begin {
        /// The new generation.
        generation: Generation,
        /// The current one.
        previous: Option<u32>,
    },
    /// An earlier life ended in the middle: the last step that was journaled.
    Interrupted {
        /// The step.
        step: ProvisionStep,
    },
    /// Its owner has a life tried again that had stuck: the step that it stuck in. One that goes on is left alone.
    Again {
        /// The step.
        step: ProvisionStep,
    },
    /// A step is done.
    Done {
        /// Which.
        step: ProvisionStep,
    },
    /// A step failed.
    Failed {
        /// Which.
        step: ProvisionStep,
        /// Why, for people.
        why: String,
    },
}

/// Told about generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisionEvent {
    /// It is current and confirmed.
    Committed {
        /// Which.
        generation: Generation,
    },
    /// It failed; the previous one runs again.
    Reverted {
        /// Which.
        generation: Generation,
        /// Why, for people.
        why: String,
    },
    /// It failed, and so did the way back: the owner is needed.
    Stuck {
        /// Which.
        generation: Generation,
        /// Why, for people.
        why: String,
    },
}
