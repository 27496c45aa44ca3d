//! `assemble` and `withdraw`: how a request ends. Invariant: what is adopted or appended is verified as by anybody; what was handed
//! out is given up by its owner's word only.

use super::{
    super::{
        closure::blocking,
        failure::{Failure, Kind},
        publish::APPENDING,
    },
    entry::free,
    newest,
    others::{Made, undisputed},
    rotate,
    waiting::{self, forget, is_ours, tidied},
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
    /// Goes on although nobody could be asked who would know what another home said.
    #[serde(default)]
    alone: bool,
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
    let own = match request.wanted {
        Wanted::Root(_) => undisputed(context, args.alone, Made::Root).await?,
        // It stands in the feed already.
        Wanted::Entry(_) if request.is_again() => newest(context).await?,
        Wanted::Entry(_) => undisputed(context, args.alone, Made::Entry).await?,
    };
    if request.publisher() != own.publisher {
        return Err(Failure::refused(format!(
            "the request is of publisher {}, this home is {}",
            request.publisher(),
            own.publisher
        )));
    }
    // Judged by the root document of now, which may be newer than the request.
    request = request.rebased(&own.envelope)?;
    let waiting = tidied(context, &own)?;
    // Whatever came from elsewhere was shown to nobody here: it is signed where somebody sees what it says.
    let ours = is_ours(context, &request)?;
    if ours {
        request.sign_where_due(&context.keys.at_hand());
    }
    let Some(envelope) = request.sealed() else { return Err(lacks(&request, ours)) };
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
            free(context, &own, &waiting).await?;
            let bytes = codec::encode(&envelope).map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
            let head = context.handle.append(own.publisher, bytes).await?;
            answer["epoch"] = json!(head.at.epoch);
            answer["sequence"] = json!(head.at.seq);
        }
    }
    forget(context, &request);
    answer["asked"] = own.asked.into();
    answer["adopted"] = true.into();
    Ok(answer)
}

fn lacks(request: &Opened, ours: bool) -> Failure {
    let lacking = words::lacks(&request.lacking());
    let hint = match ours {
        true => {
            "`softservice publisher sign REQUEST --keys FILE` adds them, where the keys are; then assemble all copies"
        }
        false => {
            "it was not handed out here, so no key of this home signs it unseen: `softservice publisher sign REQUEST --keys FILE` shows what it says and signs it"
        }
    };
    Failure::refused(format!("{} lacks signatures: {lacking}", request.title())).hint(hint).with(request.document())
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
    let waiting = if args.look { waiting::open(context, &own)? } else { tidied(context, &own)? };
    if !args.look {
        // Also where no file is: the core may remember one.
        context.handle.withdraw(own.publisher).await?;
    }
    if waiting.is_empty() {
        return Err(Failure::not_found("no request waits for signatures"));
    }
    if !args.look {
        waiting.iter().for_each(|request| forget(context, request));
    }
    Ok(json!({ "withdrawn": waiting.iter().map(Opened::document).collect::<Vec<_>>() }))
}
