//! Listening sockets of a front. Invariant: a public port is owned on IPv4, or there is an error; where the device has IPv6, on
//! that too.

use crate::device::keeper::say;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// Connections that the kernel keeps while all places are taken.
const BACKLOG: i32 = 1024;

/// Listens on a public port: on every address of the device, or on this device's own only.
pub(super) fn public(port: u16, everywhere: bool) -> std::io::Result<Vec<TcpListener>> {
    let (four, six) = match everywhere {
        true => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        false => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
    };
    let mut all = vec![one(four.into(), port)?];
    match one(six.into(), port) {
        Ok(listener) => all.push(listener),
        // A device without IPv6, or with that address alone taken: bindings and endpoints say the IPv4 one.
        Err(e) => say(format_args!("front: port {port} on IPv6: {e}")),
    }
    Ok(all)
}

fn one(address: IpAddr, port: u16) -> std::io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of before that still linger do not count. Sharing the port (SO_REUSEPORT) would hide somebody else's.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    match listen(&socket, BACKLOG) {
        Err(Errno::ADDRINUSE) => Err(std::io::ErrorKind::AddrInUse.into()),
        other => Ok(other.map(|()| TcpListener::from(socket))?),
    }
}
