//! What a new epoch gave up and is still needed. Invariant: a revocation is said again by the home that opens the epoch, once, as
//! any other entry; no home does it unasked, or two of them would speak for one place.

use crate::{context::Context, handle::Appended};
use softservice_protocol::{feed::Action, id::PublisherId};

/// Says revocations again whose entries the open epoch gave up. What could not be is still
/// unsaid, and asked for by its name.
pub(super) async fn say_again(context: &Context, publisher: PublisherId) {
    for (release, revocation) in context.handle.unsaid(publisher).await.unwrap_or_default() {
        let action = Action::Revoke { release, revocation };
        match context.handle.publish_or_request(publisher, action, false).await {
            Ok(Appended::Published(head)) => {
                tracing::info!(release = %release.short(), seq = head.at.seq, "a revocation is said again in the new epoch");
            }
            Ok(Appended::Unsigned { have, threshold, .. }) => {
                tracing::warn!(release = %release.short(), have, threshold, "a revocation that the epoch gave up lacks keys");
            }
            Err(error) => {
                tracing::warn!(release = %release.short(), %error, "a revocation that the epoch gave up is not said again");
            }
        }
    }
}
