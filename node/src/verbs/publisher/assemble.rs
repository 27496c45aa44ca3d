//! `assemble`: signatures that were made elsewhere come back. Invariant: what is adopted or appended is verified as by anybody.

use super::{
    super::{closure::blocking, failure::Failure, publish::APPENDING},
    newest, rotate,
};
use crate::{
    context::Context,
    publisher::{
        request::{Request, Wanted},
        words,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assemble {
    requests: Vec<PathBuf>,
}

pub(crate) async fn assemble(context: &Context, args: Assemble) -> Result<Value, Failure> {
    if args.requests.is_empty() || args.requests.iter().any(|p| !p.is_absolute()) {
        return Err(Failure::usage("requests are absolute paths, one at least"));
    }
    let files = args.requests;
    let merged = blocking(move || {
        let mut merged = None;
        for file in &files {
            let one = Request::read(file)?;
            merged = Some(match merged.take() {
                None => one,
                Some(mut all) => {
                    crate::publisher::request::Opened::merge(&mut all, &one)?;
                    all
                }
            });
        }
        merged.ok_or_else(|| Failure::usage("a request is needed"))
    });
    let mut request = merged.await?;
    let _changing = APPENDING.lock().await;
    let own = newest(context).await?;
    if request.publisher() != own.publisher {
        return Err(Failure::refused(format!(
            "the request is of publisher {}, this home is {}",
            request.publisher(),
            own.publisher
        )));
    }
    request.sign_where_due(&context.keys.at_hand());
    let Some(envelope) = request.sealed() else {
        let lacking = words::lacks(&request.lacking());
        return Err(Failure::refused(format!("{} lacks signatures: {lacking}", request.title()))
            .hint("`softservice publisher sign REQUEST --keys FILE` adds them, where the keys are; then assemble all copies")
            .with(request.document()));
    };
    let mut answer = request.document();
    match &request.wanted {
        Wanted::Root(next) => {
            if next.version <= own.root.root.version {
                return Err(Failure::refused(format!(
                    "this publisher has root document {} already, the request is for {}",
                    own.root.root.version, next.version
                )));
            }
            let version = rotate::adopt(context, &own, envelope).await?;
            answer["root_version"] = json!(version);
        }
        Wanted::Entry(_) => return Err(Failure::usage("a request for an entry")),
    }
    answer["adopted"] = true.into();
    Ok(answer)
}
