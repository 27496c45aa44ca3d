//! A real front, a process of its own, before services that are tasks of the test.

use super::{super::keeper::tests as keeper_tests, *};
use crate::device::ports;
use std::net::Ipv4Addr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::timeout,
};

/// No event of any test takes so long on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct House {
    _scratch: tempfile::TempDir,
    place: Place,
    keepers: Keepers,
    monitors: Monitors,
    /// Free numbers, kept until they are used.
    numbers: Vec<u16>,
    reserved: ports::Reserved,
}

impl House {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = Place::new(scratch.path(), "page").expect("a name");
        place.make().expect("folders");
        let mut reserved = ports::Reserved::new();
        let keys = ["a", "b", "c", "d", "e", "f"];
        let numbers = ports::assign_inner(scratch.path(), &place, 1, keys, &mut reserved).expect("free numbers");
        let numbers = numbers.into_values().collect();
        Self {
            _scratch: scratch,
            place,
            keepers: Keepers::detached(keeper_tests::command()),
            monitors: Monitors::default(),
            numbers,
            reserved,
        }
    }
    /// A number that nobody listens on now.
    fn number(&mut self) -> u16 {
        let number = self.numbers.pop().expect("enough numbers");
        self.reserved.remove(&number);
        number
    }
    fn front(&self) -> Front<'_> {
        Front { place: &self.place, keepers: &self.keepers, monitors: &self.monitors }
    }
    async fn end(&self) {
        self.front().stop().await.expect("stopped");
        assert!(!self.place.front().exists(), "nothing of it stays");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let keeper = keeper::last_status(&self.place.front());
        if let Some(keeper) = keeper.filter(|_| std::thread::panicking()) {
            keeper_tests::kill(keeper.keeper);
        }
    }
}

fn port(public: u16, inner: u16, everywhere: bool) -> FrontSpec {
    FrontSpec { key: format!("web.{public}"), role: "web".into(), public, inner, everywhere }
}

/// A service that says its name, then repeats what it hears.
async fn service(number: u16, name: &'static str) -> AbortHandle {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).await.expect("a free number");
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = write.write_all(name.as_bytes()).await;
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    accepting.abort_handle()
}

async fn connect(public: u16) -> TcpStream {
    timeout(DEADLINE, TcpStream::connect((Ipv4Addr::LOCALHOST, public))).await.expect("in time").expect("taken")
}

async fn hear(stream: &mut TcpStream, words: usize) -> String {
    let mut heard = vec![0; words];
    timeout(DEADLINE, stream.read_exact(&mut heard)).await.expect("in time").expect("heard");
    String::from_utf8(heard).expect("text")
}

#[tokio::test]
async fn connections_stay_where_they_are_and_new_ones_go_to_the_new_service() {
    let mut house = House::new();
    let (public, old, new) = (house.number(), house.number(), house.number());
    service(old, "old").await;
    service(new, "new").await;
    house.front().lead(&[port(public, old, false)]).await.expect("led");
    let mut early = connect(public).await;
    assert_eq!(hear(&mut early, 3).await, "old");
    house.front().lead(&[port(public, new, false)]).await.expect("led elsewhere");
    for _ in 0..20 {
        assert_eq!(hear(&mut connect(public).await, 3).await, "new", "from the moment in which it was said");
    }
    early.write_all(b"still there?").await.expect("sent");
    assert_eq!(hear(&mut early, 12).await, "still there?");
    house.front().drain(&[new], DEADLINE).await;
    let front = house.front();
    let ports = [old];
    let drained = front.drain(&ports, DEADLINE);
    tokio::pin!(drained);
    assert!(futures::poll!(&mut drained).is_pending());
    // One end of two: the other half goes on.
    early.shutdown().await.expect("half an end");
    let mut rest = String::new();
    timeout(DEADLINE, early.read_to_string(&mut rest)).await.expect("in time").expect("the end");
    timeout(DEADLINE, drained).await.expect("nobody is there any more");
    house.end().await;
}

#[tokio::test]
async fn the_way_back_to_a_table_that_was_kept_writes_nothing() {
    use std::os::unix::fs::MetadataExt;
    let mut house = House::new();
    let (public, old, new) = (house.number(), house.number(), house.number());
    service(old, "old").await;
    service(new, "new").await;
    let (before, after) = ([port(public, old, false)], [port(public, new, false)]);
    house.front().lead(&before).await.expect("led");
    house.front().keep(&before).expect("kept");
    house.front().lead(&after).await.expect("led elsewhere");
    assert_eq!(hear(&mut connect(public).await, 3).await, "new");
    let file =
        |name: &str| std::fs::metadata(house.place.front().join(name)).map(|about| (about.ino(), about.mtime_nsec()));
    let kept = file(KEPT).expect("a table beside");
    for _ in 0..2 {
        house.front().lead(&before).await.expect("led back");
        assert_eq!(file(files::FRONT).expect("a table"), kept, "renamed, and left alone");
        assert_eq!(hear(&mut connect(public).await, 3).await, "old");
    }
    assert!(file(KEPT).is_err(), "one at a time");
    house.end().await;
}

#[tokio::test]
async fn whoever_comes_in_the_moment_of_a_switch_waits_and_is_served() {
    let mut house = House::new();
    let (public, old, new) = (house.number(), house.number(), house.number());
    house.front().lead(&[port(public, old, false)]).await.expect("led");
    // Nobody listens there: the service has just ended, or has not begun yet.
    let mut waiting = connect(public).await;
    waiting.write_all(b"hello").await.expect("sent");
    service(new, "new").await;
    house.front().lead(&[port(public, new, false)]).await.expect("led elsewhere");
    assert_eq!(hear(&mut waiting, 8).await, "newhello");
    house.end().await;
}

#[tokio::test]
async fn bytes_and_ends_pass_both_ways_whole() {
    let mut house = House::new();
    let (public, inner) = (house.number(), house.number());
    service(inner, "").await;
    house.front().lead(&[port(public, inner, false)]).await.expect("led");
    let stream = connect(public).await;
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..8_u32 << 20).map(|n| (n ^ (n >> 8)) as u8).collect();
    let said = sent.clone();
    // Much more than buffers hold, and nobody reads at first: what is slow waits in the kernel.
    let saying = tokio::spawn(async move {
        write.write_all(&said).await.expect("sent");
        write.shutdown().await.expect("an end");
    });
    let mut heard = Vec::new();
    timeout(DEADLINE, read.read_to_end(&mut heard)).await.expect("in time").expect("heard");
    saying.await.expect("said");
    assert!(heard == sent, "{} bytes came back of {}", heard.len(), sent.len());
    house.end().await;
}

#[tokio::test]
async fn a_port_of_somebody_else_is_an_error_that_changes_nothing() {
    let mut house = House::new();
    let (public, inner, taken) = (house.number(), house.number(), house.number());
    service(inner, "here").await;
    let somebody = service(taken, "somebody").await;
    let error = house.front().lead(&[port(taken, inner, false)]).await.expect_err("taken");
    assert!(error.to_string().contains(&format!("cannot listen on port {taken} (web.{taken})")), "{error}");
    house.front().lead(&[port(public, inner, false)]).await.expect("led");
    let both = [port(public, 1, true), port(taken, inner, true)];
    let error = house.front().lead(&both).await.expect_err("taken");
    assert!(error.to_string().contains("cannot listen"), "{error}");
    assert_eq!(hear(&mut connect(public).await, 4).await, "here");
    assert_eq!(house.front().table(), [port(public, inner, false)], "and so it comes back after a crash");
    somebody.abort();
    house.end().await;
}

#[tokio::test]
async fn a_killed_front_comes_back_and_the_next_node_finds_it() {
    let mut house = House::new();
    let (public, inner) = (house.number(), house.number());
    service(inner, "here").await;
    house.front().lead(&[port(public, inner, false)]).await.expect("led");
    let first = keeper::last_status(&house.place.front()).expect("a status").keeper;
    let changes = crate::device::readable::changes([house.place.front().as_path()]).expect("told of changes");
    keeper_tests::kill(first);
    let next = async {
        loop {
            match control::status(&house.place.front()).await {
                Some(status) if status.keeper != first => return status.keeper,
                // The socket's name is there a moment before it listens, and nothing tells of that.
                _ => drop(timeout(Duration::from_millis(100), crate::device::readable::changed(&changes)).await),
            }
        }
    };
    let second = timeout(DEADLINE, next).await.expect("another came");
    assert_eq!(hear(&mut connect(public).await, 4).await, "here");
    // The next life of the node knows nothing but the folder.
    house.monitors.cut_off();
    house.monitors = Monitors::default();
    assert!(house.front().runs().await);
    house.front().lead(&house.front().table()).await.expect("found");
    assert_eq!(keeper::last_status(&house.place.front()).expect("a status").keeper, second, "the same one");
    assert_eq!(hear(&mut connect(public).await, 4).await, "here");
    house.end().await;
}

#[tokio::test]
async fn a_port_is_open_to_this_device_or_to_everybody_and_may_change() {
    let mut house = House::new();
    let (public, inner) = (house.number(), house.number());
    service(inner, "here").await;
    // Of this device, too, but another address than the one that means this device only.
    let other = (Ipv4Addr::new(127, 0, 0, 2), public);
    for everywhere in [false, true, false] {
        house.front().lead(&[port(public, inner, everywhere)]).await.expect("led");
        assert_eq!(hear(&mut connect(public).await, 4).await, "here");
        assert_eq!(TcpStream::connect(other).await.is_ok(), everywhere);
        if let Ok(mut six) = TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, public)).await {
            assert_eq!(hear(&mut six, 4).await, "here");
        } else {
            eprintln!("SKIPPED: this machine has no IPv6");
        }
    }
    house.front().close().await.expect("closed");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, public)).await.is_err());
    house.end().await;
}
