//! Migrations: programs of a release that carry data over to its layout. Invariant: one runs only on data that was kept just
//! before, and only from the layout that it knows.

use super::{
    Device, durable,
    errand::Errand,
    error::{DeviceError, Result},
    layout::Place,
};
use softservice_protocol::instance::{Instance, MigrateSpec};
use std::time::Duration;

/// A migration that takes longer hangs: nobody serves meanwhile.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The name of a migration's keeper and log.
pub(super) fn called(migrate: &MigrateSpec) -> String {
    format!("migrate@{}", migrate.component)
}

/// The migrations on the way from `old` to generation `number`, in their order.
///
/// # Errors
/// A component's data is of a layout that its migration does not know, or of a newer one than it reads.
pub(super) fn due<'n>(name: &str, number: u32, new: &'n Instance, old: &Instance) -> Result<Vec<&'n MigrateSpec>> {
    if let Some(back) = new.moves(old).into_iter().find(|m| m.to < m.from) {
        return Err(DeviceError::Epoch { name: name.into(), number, old: back.to, now: back.from });
    }
    new.migrations(old).map_err(|moved| DeviceError::NoMigration {
        name: name.into(),
        component: if moved.component.is_empty() { new.distro.clone() } else { moved.component },
        from: moved.from,
        to: moved.to,
    })
}

/// Runs migrations, each once: which ended well is written down, so that a repeated step does not carry data over twice.
pub(super) async fn run(place: &Place, number: u32, device: &Device, all: &[&MigrateSpec]) -> Result<()> {
    for migrate in all {
        let name = called(migrate);
        let done = place.generation(number).path.join(format!("{name}.done"));
        if done.exists() {
            continue;
        }
        let errand = Errand {
            device,
            place,
            number,
            name: &name,
            command: &migrate.command,
            environment: &migrate.environment,
            sandbox: &migrate.sandbox,
            within: LONGEST,
        };
        errand.run().await.map_err(|why| DeviceError::Migration {
            name: place.name.clone(),
            number,
            component: if migrate.component.is_empty() {
                "the distro itself".into()
            } else {
                migrate.component.clone()
            },
            why,
        })?;
        durable::write(&done, b"", 0o600)?;
    }
    Ok(())
}
