//! Connections that the node itself makes, to ask. Invariant: none leads further than the permissions of the role for which it
//! asks; a name is looked up once for each connection, and what it meant then is judged, not the name.

use softservice_protocol::instance::{
    destination::{Destination, Host},
    sandbox::{Network, Reach},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::net::{TcpStream, lookup_host};

/// Connects to `to`. What listens at our own address was judged with all ports of the softservice in sight, when the
/// generation was made; everything else must be `allowed`.
///
/// # Errors
/// Why there is no connection.
pub(super) async fn dial(to: &Destination, allowed: &[Reach]) -> Result<TcpStream, String> {
    let found: Vec<SocketAddr> = match &to.host {
        Host::Address(address) => vec![(*address, to.port).into()],
        Host::Name(name) => lookup_host((name.as_str(), to.port)).await.map_err(|e| e.to_string())?.collect(),
    };
    let mut last = "no address is known of it".to_owned();
    for address in found {
        if !to.host.is_own() && !is_open(address, allowed) {
            last = format!("{address} is beyond what `allow.connect` of its role names");
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn is_open(address: SocketAddr, allowed: &[Reach]) -> bool {
    let to = if is_here(address) { Some(Network::Device) } else { Network::of(address.ip()) };
    to.is_some_and(|to| to.is_open(address.port(), allowed))
}

/// Whether an address is this device's own. A socket that is directed there gets it for itself as well; nothing is sent.
fn is_here(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let ours = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    ours.is_ok_and(|ours| ours.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn reach(to: Network, port: u16) -> Reach {
        Reach { to, port: Some(port) }
    }

    #[tokio::test]
    async fn a_name_leads_no_further_than_what_it_means_is_allowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // Built by hand: as a text, `localhost` is not looked up at all. Any other name may mean the same.
        let named = Destination { host: Host::Name("localhost".into()), port };
        let far = [reach(Network::Internet, port), reach(Network::Lan, port), reach(Network::Device, port ^ 1)];
        let why = dial(&named, &far).await.expect_err("refused");
        assert!(why.contains("beyond what `allow.connect`"), "{why}");
        // One that was let in stands alone in the queue: what was refused never came.
        dial(&named, &[reach(Network::Device, port)]).await.expect("allowed");
        listener.accept().await.expect("the one that was allowed");
        let more = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready())).await;
        assert!(!more, "a refused connection arrived");
    }

    #[tokio::test]
    async fn our_own_address_was_judged_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        dial(&Destination { host: Host::Address(Ipv4Addr::LOCALHOST.into()), port }, &[]).await.expect("our own");
    }

    #[test]
    fn the_other_names_of_this_device_are_this_device() {
        for address in ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9"] {
            let address: SocketAddr = address.parse().expect("an address");
            assert!(is_open(address, &[reach(Network::Device, 9)]), "{address}");
            assert!(!is_open(address, &[reach(Network::Internet, 9), reach(Network::Lan, 9)]), "{address}");
        }
    }
}
