//! `assemble` and `withdraw`: how a request ends. Invariant: what is adopted or appended is verified as by anybody; what was handed
//! out is given up by its owner's word only.

use super::{
    super::{
        closure::blocking,
        failure::{Failure, Kind},
        publish::APPENDING,
    },
    is_over, newest, rotate, waiting,
};
use crate::{
    context::Context,
    publisher::{
        request::{Opened, Request, Wanted},
        words,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::codec;
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
        let mut merged: Option<Opened> = None;
        for file in &files {
            let one = Request::read(file)?;
            merged = Some(match merged.take() {
                None => one,
                Some(mut all) => {
                    all.merge(&one)?;
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
            let version = next.version;
            answer["head_signed"] = rotate::adopt(context, &own, envelope).await?.into();
            answer["root_version"] = json!(version);
        }
        Wanted::Entry(_) => {
            let bytes = codec::encode(&envelope).map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
            let head = context.handle.append(own.publisher, bytes).await?;
            answer["epoch"] = json!(head.at.epoch);
            answer["sequence"] = json!(head.at.seq);
        }
    }
    forget(context, &request);
    answer["adopted"] = true.into();
    Ok(answer)
}

/// A request that is over waits no more. A file that stays is passed over, so failing does no harm.
fn forget(context: &Context, request: &Opened) {
    let file = context.keys.requests().join(request.file_name());
    if let Err(error) = std::fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "a request that is over could not be removed");
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withdraw {
    /// Only says what waits.
    #[serde(default)]
    look: bool,
}

/// Gives up what waits for signatures: its owner says that nobody will sign it any more.
pub(crate) async fn withdraw(context: &Context, args: Withdraw) -> Result<Value, Failure> {
    let _changing = APPENDING.lock().await;
    let own = newest(context).await?;
    let waiting: Vec<Opened> = waiting(context).into_iter().filter(|r| !is_over(&own, r)).collect();
    if waiting.is_empty() {
        return Err(Failure::not_found("no request waits for signatures"));
    }
    if !args.look {
        context.handle.withdraw(own.publisher).await?;
        waiting.iter().for_each(|request| forget(context, request));
    }
    Ok(json!({ "withdrawn": waiting.iter().map(Opened::document).collect::<Vec<_>>() }))
}
