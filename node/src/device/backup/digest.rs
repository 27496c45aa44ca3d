//! One hash over a volume: two equal ones mean that nothing that a program could notice differs. Invariant: it is that of the
//! archive that a backup of the volume alone would be, so it covers names, bytes, modes, owners, times and links; what
//! belongs to the softservice's own user counts as such, whichever number that user has.

use super::{
    error::Result as Packed,
    pack::{self, ServiceUser, Sink, Source},
};
use crate::device::{
    Device, blocking,
    error::{DeviceError, Result},
    layout::Place,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    archive::{Header, Part},
    id::{PublisherId, ReleaseId},
    release::ReleaseRef,
};
use std::{collections::BTreeMap, path::Path};

/// A volume in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSum {
    /// Files, folders and links in it, its own folder among them.
    pub entries: u64,
    /// Bytes of its files, holes left out.
    pub bytes: u64,
    /// BLAKE3 over all of it, as hex.
    pub blake3: String,
}

struct Hashing(blake3::Hasher);

impl Sink for Hashing {
    fn write(&mut self, bytes: &[u8]) -> Packed<()> {
        self.0.update(bytes);
        Ok(())
    }
    fn told(&mut self, _: u64) -> bool {
        true
    }
}

/// The sum of a folder that is the volume of this key. Nobody writes to it meanwhile.
pub(super) fn sum(folder: &Path, key: &str, user: ServiceUser) -> Packed<VolumeSum> {
    // Of no release and no softservice: the same data has the same sum wherever it lies.
    let header = Header {
        made_at: 0,
        program: String::new(),
        softservice: "volume".into(),
        publisher: PublisherId([0; 32]),
        distro: "volume".into(),
        version: "0.0.0".into(),
        release: ReleaseRef { id: ReleaseId([0; 32]), size: 0 },
        epoch: 0,
        answers: Vec::new(),
        parts: Vec::new(),
        entries: 0,
        bytes: 0,
    };
    let source = Source { folder: folder.into(), part: Part::Volume(key.into()) };
    let mut hash = Hashing(blake3::Hasher::new());
    let Header { entries, bytes, .. } = pack::pack(header, &[source], user, &mut hash)?;
    Ok(VolumeSum { entries, bytes, blake3: hash.0.finalize().to_hex().to_string() })
}

/// The sums of volumes where they lie.
pub(super) fn sums<'k>(
    place: &Place,
    keys: impl IntoIterator<Item = &'k String>,
    user: ServiceUser,
) -> Result<BTreeMap<String, VolumeSum>> {
    let failed = |source| DeviceError::Backup { name: place.name.clone(), source: Box::new(source) };
    let one = |key: &String| Ok((key.clone(), sum(&place.volume(key), key, user).map_err(failed)?));
    keys.into_iter().map(one).collect()
}

impl Device {
    /// The sums of these volumes of a softservice, which may be removed and have left them. Its services are down.
    ///
    /// # Errors
    /// A volume cannot be read.
    pub async fn volume_sums(&self, name: &str, volumes: Vec<String>) -> Result<BTreeMap<String, VolumeSum>> {
        let place = Place::new(&self.0.softservices, name)?;
        let user = self.service_user(&place)?;
        blocking(move || sums(&place, &volumes, user)).await
    }

    /// Keys of the volumes that stay when a softservice is removed without its data.
    ///
    /// # Errors
    /// The softservice is not here.
    pub async fn kept_volumes(&self, name: &str) -> Result<Vec<String>> {
        let slot = self.existing(name)?;
        let number = slot.place.current_number()?;
        let number = number.ok_or_else(|| DeviceError::NoGeneration { name: name.into(), number: 0 })?;
        let device = self.clone();
        blocking(move || {
            let (top, answers, closure) = crate::device::overlay::inputs(&*device.0.store, &slot.place, number)?;
            let wrong = |source| DeviceError::Instance { name: slot.place.name.clone(), source: Box::new(source) };
            let needs = softservice_protocol::instance::needs(&closure, top, &answers, &crate::device::platform());
            let volumes = needs.map_err(wrong)?.volumes;
            Ok(volumes.into_iter().filter(|v| v.keep_on_remove).map(|v| v.key).collect())
        })
        .await
    }
}
