//! Hosts as network namespaces on one bridge. Invariant: names carry this process' id, and all are removed on drop.

use std::process::Command;

/// A bridge with hosts on it.
#[derive(Debug)]
pub struct Lan {
    hosts: Vec<String>,
    bridge: String,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lan {
    /// `count` hosts, 10.77.0.1 and up; the bridge has a namespace of its own.
    pub fn new(tag: &str, count: u8) -> Self {
        let bridge = format!("{tag}{}b", std::process::id());
        let mut lan = Self { hosts: Vec::new(), bridge: bridge.clone() };
        ip(&format!("netns add {bridge}"));
        ip(&format!("-n {bridge} link add br0 type bridge"));
        ip(&format!("-n {bridge} link set br0 up"));
        for number in 1..=count {
            let host = format!("{tag}{}h{number}", std::process::id());
            ip(&format!("netns add {host}"));
            lan.hosts.push(host.clone());
            ip(&format!("-n {host} link set lo up"));
            ip(&format!("link add eth0 netns {host} type veth peer name p{number} netns {bridge}"));
            ip(&format!("-n {bridge} link set p{number} master br0 up"));
            ip(&format!("-n {host} addr add 10.77.0.{number}/24 dev eth0"));
            ip(&format!("-n {host} link set eth0 up"));
            // Multicast needs a route of its own where there is no default one.
            ip(&format!("-n {host} route add 224.0.0.0/4 dev eth0"));
        }
        lan
    }
    /// The namespace of host `number`, from 1.
    pub fn host(&self, number: usize) -> String {
        self.hosts[number - 1].clone()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.bridge]) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
