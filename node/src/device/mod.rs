//! The device: carries out the steps of a generation's life. The core decides which; see `protocol/src/machine/provision.rs`.
//! Invariant: each step is journaled before it is done, and safe to repeat. This folder never imports libp2p.

use softservice_protocol::io::{ProvisionInput, ProvisionStep};
use softservice_store::Store;
use std::{path::PathBuf, sync::Arc};

/// All softservices of this home.
#[derive(Debug, Clone)]
pub struct Device {
    // to be filled by the device's author
}

#[allow(unused_variables)]
impl Device {
    /// Opens `home/softservices`; starts nothing. `keeper` is the command that runs a keeper: program and first
    /// arguments, for example `["/usr/bin/softservice", "keeper"]`.
    pub fn open(home: PathBuf, store: Arc<dyn Store>, keeper: Vec<String>) -> std::io::Result<Self> {
        unreachable!()
    }
    /// What an earlier life left in the middle: to be told to the core before anything else. Also finds running
    /// keepers again and starts those that should run and do not.
    pub async fn recover(&self) -> Vec<ProvisionInput> {
        unreachable!()
    }
    /// Carries out one step.
    pub async fn perform(&self, step: ProvisionStep) -> Result<(), String> {
        unreachable!()
    }
}
