//! What the driver shows of itself and of the core. Invariant: whoever watches the catalogue sees each change once, after
//! it is durable.

use super::Driver;
use crate::handle::{Catalogue, Known, Status, Transfer};
use softservice_protocol::machine::TransferView;
use std::sync::Arc;

impl Driver {
    pub(super) fn status(&self) -> Status {
        let transfer = |t: TransferView| Transfer {
            release: t.release.to_string(),
            stage: t.stage,
            bytes: t.bytes,
            of: t.of,
            peers: t.peers,
            ahead: t.own_wish,
            rate: t.rate,
            figures: t.figures,
        };
        Status {
            me: self.parts.me,
            addresses: self.parts.addresses.borrow().clone(),
            peers: self.parts.neighbours.infos(),
            traffic: self.parts.neighbours.traffic(),
            transfers: self.core.transfers().into_iter().map(transfer).collect(),
            refusals: self.core.refusals(),
        }
    }

    /// Shows the catalogue to whoever watches, when it changed.
    pub(super) fn tell_catalogue(&mut self) {
        let connected = self.core.peers().count();
        self.parts.peers.send_if_modified(|count| std::mem::replace(count, connected) != connected);
        if !std::mem::take(&mut self.catalogue_changed) {
            return;
        }
        let known = self.core.publishers().map(|view| {
            let known = Known {
                root_version: view.root_version,
                root_digest: view.root_digest,
                feed: Arc::clone(view.feed),
                term: view.term,
                own: view.own,
                signed: view.signed,
                behind: view.behind,
                needs: view.needs,
                frozen: view.frozen,
                difference: view.difference,
                unstated: view.unstated,
                promised: view.promised,
                addresses: view.addresses.to_vec(),
            };
            (view.publisher, known)
        });
        let catalogue: Catalogue = known.collect();
        self.parts.catalogue.send_replace(catalogue);
    }
}
