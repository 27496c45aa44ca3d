//! One hash over data: two equal ones mean that nothing that a program could notice differs. Invariant: it is that of the
//! archive that a backup would be, so it covers names, bytes, modes, owners, times and links.

use super::{
    error::Result as Packed,
    pack::{self, Sink, Source},
};
use crate::device::{
    Device, blocking,
    error::{DeviceError, Result},
    layout::Place,
};
use softservice_protocol::{
    archive::{Header, Part},
    id::{PublisherId, ReleaseId},
    release::ReleaseRef,
};

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

impl Device {
    /// A hash over these volumes of a softservice, which may be removed and have left them. Its services are down.
    ///
    /// # Errors
    /// A volume cannot be read.
    pub async fn data_digest(&self, name: &str, volumes: Vec<String>) -> Result<String> {
        let place = Place::new(&self.0.softservices, name)?;
        blocking(move || {
            let source = |key: String| Source { folder: place.volumes().join(&key), part: Part::Volume(key) };
            let sources: Vec<Source> = volumes.into_iter().map(source).collect();
            let nobody = (u32::MAX, u32::MAX);
            let header = Header {
                made_at: 0,
                program: String::new(),
                softservice: place.name.clone(),
                publisher: PublisherId([0; 32]),
                distro: place.name.clone(),
                version: "0.0.0".into(),
                release: ReleaseRef { id: ReleaseId([0; 32]), size: 0 },
                epoch: 0,
                answers: Vec::new(),
                parts: Vec::new(),
                entries: 0,
                bytes: 0,
            };
            let mut sum = Hashing(blake3::Hasher::new());
            let packed = pack::pack(header, &sources, nobody, &mut sum);
            packed.map_err(|source| DeviceError::Backup { name: place.name.clone(), source: Box::new(source) })?;
            Ok(sum.0.finalize().to_hex().to_string())
        })
        .await
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
