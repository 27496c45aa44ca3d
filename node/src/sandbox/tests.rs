//! This machine, whatever it is, holds programs as it says it does. The keeper is this very test program.

use super::{Machine, Who, command};
use softservice_protocol::instance::Sandbox;
use std::collections::BTreeMap;

fn machine() -> Machine {
    let this = std::env::current_exe().expect("this program").display().to_string();
    let part = ["device::keeper::tests::keeper_part", "--exact", "--nocapture"].map(String::from);
    Machine::tried(&std::iter::once(this).chain(part).collect::<Vec<_>>(), std::path::Path::new("/"))
}

#[tokio::test]
async fn show() {
    let machine = machine();
    println!("{machine:#?}");
    let asked = Sandbox { memory: Some(64 << 20), processes: Some(20), cpu: Some(500), ..Sandbox::default() };
    println!("{:#?}", machine.isolation([asked.clone()].iter()));
    let who = Who { label: "x".into(), user: machine.own_users().then_some(1_900_000_000), home: "/tmp/xyz".into() };
    let script = std::env::var("SCRIPT")
        .unwrap_or("id; pwd; ls -la / /etc /tmp; cat /proc/self/mountinfo /proc/self/status; ps aux".into());
    let argv = ["/bin/sh", "-c", &script].map(String::from);
    let began = std::time::Instant::now();
    let out = command(&machine, &asked, &who, &argv, &BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]))
        .output()
        .await
        .expect("it runs");
    println!(
        "{:?} {:?}\n{}\n{}",
        began.elapsed(),
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}
