//! `node` and `stop`. Invariant: the first line on stdout is the ready event, and it is printed
//! only when the node listens and its API answers.

use crate::{
    args::NodeArgs,
    error::CliError,
    session::{self, Begun, Session},
    ui::Ui,
};
use serde_json::json;
use softservice_node::{api, config::Config, verbs::failure::Kind};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{io::AsyncReadExt, net::unix::pipe};

/// Runs the node until a signal or `stop`.
pub(super) async fn run(ui: &mut Ui, home: PathBuf, args: NodeArgs) -> Result<(), CliError> {
    let runs = || {
        CliError::new(Kind::Refused, format!("a node already runs in {}", home.display()))
            .hint("`softservice stop` stops it, --home DIR chooses another home")
    };
    if api::is_alive(&home).await {
        return Err(runs());
    }
    if args.web != "off" {
        return Err(CliError::new(
            Kind::Usage,
            format!("cannot serve a web page on {:?}: this version has none", args.web),
        )
        .hint("leave --web out, or say --web off"));
    }
    let mut listen = Vec::new();
    for address in &args.listen {
        listen.extend(listening(address)?);
    }
    let config = Config {
        home: home.clone(),
        listen,
        peers: args.peer,
        mdns: !args.no_mdns,
        dht: !args.no_dht,
        web: None,
        swarm_key: args.swarm_key,
        limit_up: args.limit_up,
        limit_down: args.limit_down,
        keeper: session::keeper_command()?,
        units: session::units(),
        ..Config::default()
    };
    let owner_gone = owner_gone(args.owned)?;
    // Before the node is up: a signal that comes in the middle of the start shall stop it in order as well.
    let stop_asked = super::interrupted();
    let Begun::Own(node) = session::begin(config).await? else { return Err(runs()) };
    let context = node.context();
    let asked = context.stop.clone();
    let status = context.handle.status().await.map_err(softservice_node::verbs::failure::Failure::from)?;
    let ready = json!({
        "event": "ready",
        "device": status.me.to_string(),
        "addresses": status.addresses,
        "web": context.config.web,
        "home": context.home,
        "pid": std::process::id(),
    });
    // JSON in either mode: this line is for whoever started the process.
    ui.event(&ready);
    // Whoever holds a context holds the store, and the node's end waits for the store's.
    drop(context);
    ui.note(format!("node {} is ready; Ctrl-C stops it", status.me.short()));
    tokio::select! {
        () = stop_asked => {}
        () = owner_gone => {}
        () = asked.wait() => {}
    }
    ui.note("stopping");
    node.stop().await;
    Ok(())
}

/// Returns when whoever holds the other end of standard input is gone, however it ended; never for a node without an owner.
fn owner_gone(owned: bool) -> Result<impl Future<Output = ()>, CliError> {
    let usage = |e| CliError::new(Kind::Usage, format!("--owned: standard input is to be a pipe: {e}"));
    let pipe = match owned {
        true => Some(
            rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)
                .map_err(std::io::Error::from)
                .and_then(pipe::Receiver::from_owned_fd)
                .map_err(usage)?,
        ),
        false => None,
    };
    Ok(async {
        match pipe {
            // What comes means nothing.
            Some(mut pipe) => while matches!(pipe.read(&mut [0; 64]).await, Ok(1..)) {},
            None => std::future::pending().await,
        }
    })
}

/// IP:PORT means TCP and QUIC there; anything else is a multiaddress.
fn listening(address: &str) -> Result<Vec<String>, CliError> {
    if address.starts_with('/') {
        return Ok(vec![address.to_owned()]);
    }
    let socket: SocketAddr = address.parse().map_err(|_| {
        CliError::new(Kind::Usage, format!("cannot listen on {address:?}"))
            .hint("an address is IP:PORT, for example 0.0.0.0:4001, or a multiaddress such as /ip4/0.0.0.0/tcp/4001")
    })?;
    let (kind, ip, port) = (if socket.is_ipv4() { "ip4" } else { "ip6" }, socket.ip(), socket.port());
    Ok(vec![format!("/{kind}/{ip}/tcp/{port}"), format!("/{kind}/{ip}/udp/{port}/quic-v1")])
}

/// Asks the running node to stop and waits until it is gone.
pub(super) async fn stop(ui: &mut Ui, home: PathBuf) -> Result<(), CliError> {
    if !api::is_alive(&home).await {
        return Err(CliError::new(Kind::NoNode, format!("no node runs in {}", home.display())));
    }
    let answer = Session::running(home).client().call(ui, "stop", json!({})).await?;
    let pid = answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        gone(pid).await?;
    }
    ui.document(&json!({ "stopped": true }));
    ui.note("stopped");
    Ok(())
}

/// Waits for the end of a process that is not a child: a pidfd becomes readable then.
async fn gone(pid: rustix::process::Pid) -> Result<(), CliError> {
    use tokio::io::{Interest, unix::AsyncFd};
    /// Calls in work may end, services are not touched, the disk is synced: minutes would be a hang.
    const PATIENCE: Duration = Duration::from_secs(60);
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) else {
        // No such process: it was faster than we.
        return Ok(());
    };
    // The call is deprecated for types that may lend a descriptor that they do not own; an OwnedFd owns its.
    #[allow(deprecated, reason = "its successor is unsafe, which this workspace denies")]
    let process = AsyncFd::with_interest(process, Interest::READABLE)?;
    match tokio::time::timeout(PATIENCE, process.readable()).await {
        Ok(ended) => ended.map(drop).map_err(CliError::from),
        Err(_) => Err(CliError::new(
            Kind::Failed,
            format!("the node (process {}) still runs after 60 s", pid.as_raw_nonzero()),
        )
        .hint("what it is doing stands in its log; `kill` ends it, nothing acknowledged is lost")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_and_port_mean_both_transports() {
        let both = vec!["/ip4/127.0.0.1/tcp/4001".to_owned(), "/ip4/127.0.0.1/udp/4001/quic-v1".to_owned()];
        assert_eq!(listening("127.0.0.1:4001").unwrap(), both);
        assert_eq!(listening("[::1]:0").unwrap()[1], "/ip6/::1/udp/0/quic-v1");
        assert_eq!(listening("/ip4/1.2.3.4/tcp/1").unwrap(), vec!["/ip4/1.2.3.4/tcp/1".to_owned()]);
        assert_eq!(listening("localhost").unwrap_err().exit, 2);
    }
}
