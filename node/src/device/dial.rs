//! Connections that the node itself makes, to ask. Invariant: none leads further than the permissions of the role for which it
//! asks; a name is looked up once for each connection, and what it meant then is judged, not the name.

use softservice_protocol::instance::{
    destination::{Destination, Host},
    sandbox::{Network, Reach},
};
use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
};
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
    let Some(far) = Network::of(address.ip()) else { return false };
    let open = |to: Network| to.is_open(address.port(), allowed);
    match whose(address) {
        Ok(Whose::Ours) => open(Network::Device),
        Ok(Whose::Another) => open(far),
        Ok(Whose::Unknown) => open(Network::Device) && open(far),
        // What cannot be judged is not open.
        Err(_) => false,
    }
}

/// Whose an address is.
enum Whose {
    Ours,
    Another,
    Unknown,
}

/// Whether an address is this device's own: another's cannot be had for a socket. Nothing is sent. Refused: to direct a socket
/// there and to see which address of ours it gets; for a second address of one interface that is the first.
fn whose(address: SocketAddr) -> std::io::Result<Whose> {
    let mut own = address;
    own.set_port(0);
    own.set_ip(address.ip().to_canonical());
    match UdpSocket::bind(own) {
        Ok(_) if anybodys(own) => Ok(Whose::Unknown),
        Ok(_) => Ok(Whose::Ours),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(Whose::Another),
        Err(error) => Err(error),
    }
}

/// Whether this machine's owner lets sockets have any address, also those of others.
fn anybodys(address: SocketAddr) -> bool {
    let version = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let said = std::fs::read_to_string(format!("/proc/sys/net/{version}/ip_nonlocal_bind"));
    said.is_ok_and(|said| said.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::Ipv4Addr, process::Command};
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
        for address in ["127.0.0.1:9", "127.0.0.2:9", "127.9.9.9:9", "0.0.0.0:9", "[::1]:9", "[::ffff:127.0.0.2]:9"] {
            let address: SocketAddr = address.parse().expect("an address");
            assert!(is_open(address, &[reach(Network::Device, 9)]), "{address}");
            assert!(!is_open(address, &[reach(Network::Internet, 9), reach(Network::Lan, 9)]), "{address}");
        }
    }

    /// Plays the device with two addresses, if this process was started in its namespace.
    #[test]
    fn namespace_part() {
        if std::env::var_os(PART).is_none() {
            return;
        }
        let at = |address: &str| -> SocketAddr { format!("{address}:9").parse().expect("an address") };
        let (device, lan) = (reach(Network::Device, 9), reach(Network::Lan, 9));
        for own in ["192.168.77.1", "192.168.77.2", "10.77.0.1"] {
            assert!(!is_open(at(own), std::slice::from_ref(&lan)), "{own} is no neighbour");
            assert!(is_open(at(own), std::slice::from_ref(&device)), "{own}");
        }
        assert!(is_open(at("192.168.77.3"), std::slice::from_ref(&lan)));
        assert!(!is_open(at("192.168.77.3"), std::slice::from_ref(&device)));
        // Where any address can be had, nobody knows whose it is.
        std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").expect("its own namespace");
        for any in ["192.168.77.2", "192.168.77.3"] {
            assert!(!is_open(at(any), std::slice::from_ref(&lan)) && !is_open(at(any), std::slice::from_ref(&device)));
            assert!(is_open(at(any), &[lan.clone(), device.clone()]), "{any}");
        }
    }

    const PART: &str = "SOFTSERVICE_NAMESPACE_PART";

    #[test]
    fn a_second_address_of_this_device_is_this_device() {
        let device = "ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up \
            && ip addr add 192.168.77.1/24 dev v0 && ip addr add 192.168.77.2/24 dev v0 && ip addr add 10.77.0.1/8 dev v0";
        let unshared = |command: &str| {
            let mut run = Command::new("unshare");
            run.args(["--net", "sh", "-c", command]);
            run
        };
        if !unshared(device).output().is_ok_and(|done| done.status.success()) {
            eprintln!("SKIPPED, needs root: a second address of a device, in a network namespace");
            return;
        }
        let this = std::env::current_exe().expect("this program");
        let play = format!("{device} && exec {} device::dial::tests::namespace_part --exact", this.display());
        let played = unshared(&play).env(PART, "1").output().expect("it starts");
        let said = String::from_utf8_lossy(&played.stdout);
        assert!(played.status.success() && said.contains("1 passed"), "{said}");
    }
}
