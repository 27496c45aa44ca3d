//! The story itself, act by act. Each act asks real nodes and checks what it claims before it goes on.

use super::{
    DemoError,
    cast::{Stage, Who},
    guestbook::Sources,
    http,
    report::Report,
};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// Between two requests of the visitor who keeps asking while the bad release comes and goes.
const VISIT: Duration = Duration::from_millis(20);

fn broken(what: impl Into<String>) -> DemoError {
    DemoError::Story(what.into())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, DemoError> {
    value[field].as_str().ok_or_else(|| broken(format!("an answer lacks {field:?}: {value}")))
}

fn page_url(answer: &Value) -> Result<String, DemoError> {
    let endpoint = answer["endpoints"]
        .as_array()
        .and_then(|list| list.iter().find(|e| e["url"].as_str().is_some_and(|u| u.starts_with("http:"))));
    let endpoint = endpoint.ok_or_else(|| broken(format!("an answer lacks endpoints: {answer}")))?;
    Ok(text(endpoint, "url")?.to_owned())
}

fn host(url: &str) -> String {
    url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned()
}

async fn visit(url: &str, method: &'static str, path: &'static str, body: &'static str) -> Result<String, DemoError> {
    let address = host(url);
    let asked = tokio::task::spawn_blocking(move || http::ask(&address, method, path, "", body.as_bytes())).await;
    match asked.map_err(|e| broken(e.to_string()))? {
        Ok((status, body)) if status < 400 => Ok(String::from_utf8_lossy(&body).into_owned()),
        Ok((status, _)) => Err(broken(format!("{url} answers {status}"))),
        Err(e) => Err(broken(format!("{url}: {e}"))),
    }
}

async fn expect_on_page(url: &str, wanted: &str) -> Result<(), DemoError> {
    let page = visit(url, "GET", "/", "").await?;
    if page.contains(wanted) { Ok(()) } else { Err(broken(format!("{url} does not show {wanted:?}"))) }
}

/// Plays all acts; with `keep` it then waits for Ctrl-C.
pub(super) async fn play(stage: &mut Stage, keep: bool, say: Say<'_>) -> Result<Report, DemoError> {
    let mut report = Report::default();
    let began = Instant::now();
    let (publisher, id) = stage.enter("publisher").await?;
    report.names.insert(id, "publisher".into());
    let (one, id) = stage.enter("device-one").await?;
    report.names.insert(id, "device-one".into());
    let (two, id) = stage.enter("device-two").await?;
    report.names.insert(id, "device-two".into());
    report.step("three nodes start, each a process with its own home", began);
    say("Three nodes run: a publisher and two devices.");

    let sources = Sources::write(&stage.folder)?;
    let ticket = publish(stage, publisher, &sources, &mut report, say).await?;
    let urls = install(stage, [one, two], &ticket, &mut report, say).await?;
    visit(&urls[0], "POST", "/sign", "name=Ada&words=I+was+here+first").await?;
    expect_on_page(&urls[0], "I was here first").await?;
    improve(stage, publisher, [one, two], &urls, &sources, &mut report, say).await?;
    survive(stage, publisher, one, &urls[0], &sources, &mut report, say).await?;
    go_back(stage, two, &urls[1], &mut report, say).await?;
    let url = outlive(stage, publisher, one, &ticket, &mut report, say).await?;
    say(&format!("The guestbook answers at {} and, on the third device, at {url}", urls[0]));
    report.url = url;
    if keep {
        say(&report.table());
        say("It runs until you press Ctrl-C.");
        crate::commands::interrupted().await;
    }
    Ok(report)
}

async fn publish(
    stage: &Stage,
    publisher: Who,
    sources: &Sources,
    report: &mut Report,
    say: Say<'_>,
) -> Result<String, DemoError> {
    let began = Instant::now();
    let mut answer = Value::Null;
    for folder in [&sources.data, &sources.web, &sources.whole] {
        answer = stage.ask(publisher, &["publish", &folder.display().to_string()]).await?;
    }
    report.step("publish guestbook 1.0.0 and the two distros it includes", began);
    let ticket = text(&answer, "ticket")?.to_owned();
    say("Published guestbook 1.0.0, a distro of two distros. Its ticket:");
    say(&format!("  {ticket}"));
    Ok(ticket)
}

async fn install(
    stage: &Stage,
    devices: [Who; 2],
    ticket: &str,
    report: &mut Report,
    say: Say<'_>,
) -> Result<[String; 2], DemoError> {
    let mut urls = [String::new(), String::new()];
    for (index, (who, name)) in devices.into_iter().zip(["device-one", "device-two"]).enumerate() {
        let began = Instant::now();
        stage.ask(who, &["subscribe", ticket, "--as", "demo"]).await?;
        let answer = stage.ask(who, &["up", "demo/guestbook", "--yes", "--accept-reduced"]).await?;
        report.step(&format!("{name}: subscribe by ticket, fetch, provision, test"), began);
        if index == 0 {
            tell_reduced(&answer, say);
        }
        report.fetch(name, &answer);
        let url = page_url(&answer)?;
        expect_on_page(&url, "A guestbook").await?;
        say(&format!("{name} serves guestbook 1.0.0 at {url}, its tests passed."));
        urls[index] = url;
    }
    Ok(urls)
}

async fn release(stage: &Stage, publisher: Who, sources: &Sources, version: usize) -> Result<(), DemoError> {
    sources.set_version(version)?;
    for folder in [&sources.web, &sources.whole] {
        stage.ask(publisher, &["publish", &folder.display().to_string()]).await?;
    }
    Ok(())
}

async fn improve(
    stage: &Stage,
    publisher: Who,
    devices: [Who; 2],
    urls: &[String; 2],
    sources: &Sources,
    report: &mut Report,
    say: Say<'_>,
) -> Result<(), DemoError> {
    let began = Instant::now();
    release(stage, publisher, sources, 2).await?;
    report.step("publish guestbook 2.0.0 with a new page", began);
    for (who, (name, url)) in devices.into_iter().zip(["device-one", "device-two"].into_iter().zip(urls)) {
        let began = Instant::now();
        let answer = stage.ask(who, &["update", "guestbook", "--yes"]).await?;
        report.step(&format!("{name}: update to 2.0.0"), began);
        report.fetch(name, &answer);
        expect_on_page(url, "Our guestbook").await?;
    }
    expect_on_page(&urls[0], "I was here first").await?;
    say("Both devices updated to 2.0.0; the page is new, the entry is still there.");
    Ok(())
}

async fn survive(
    stage: &Stage,
    publisher: Who,
    device: Who,
    url: &str,
    sources: &Sources,
    report: &mut Report,
    say: Say<'_>,
) -> Result<(), DemoError> {
    release(stage, publisher, sources, 3).await?;
    let began = Instant::now();
    let (stop, answered, unanswered) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let visitor = {
        let (stop, answered, unanswered, url) = (stop.clone(), answered.clone(), unanswered.clone(), url.to_owned());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(VISIT);
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let count = if visit(&url, "GET", "/", "").await.is_ok() { &answered } else { &unanswered };
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let outcome = stage.attempt(device, &["update", "guestbook", "--yes"]).await;
    stop.store(true, Ordering::Relaxed);
    visitor.await.map_err(|e| broken(e.to_string()))?;
    let (good, answer) = outcome?;
    if good {
        return Err(broken(format!("the bad release was kept: {answer}")));
    }
    report.step("device-one: 3.0.0 fails its health check and is rolled back", began);
    report.answered = answered.load(Ordering::Relaxed);
    report.unanswered = unanswered.load(Ordering::Relaxed);
    expect_on_page(url, "Our guestbook</h1>").await?;
    report.reverted = true;
    say("guestbook 3.0.0 fails its health check; device-one still serves 2.0.0.");
    Ok(())
}

/// The devices of the demo are this machine: it is accepted as it is.
fn tell_reduced(answer: &Value, say: Say<'_>) {
    let reduced = answer["reduced"].as_array().map_or(&[][..], Vec::as_slice);
    let measures: Vec<&str> = reduced.iter().filter_map(|r| r["measure"].as_str()).collect();
    if !measures.is_empty() {
        say(&format!("This machine cannot enforce {}; the demo accepts that.", measures.join(", ")));
    }
}

async fn go_back(stage: &Stage, device: Who, url: &str, report: &mut Report, say: Say<'_>) -> Result<(), DemoError> {
    let began = Instant::now();
    stage.ask(device, &["rollback", "guestbook"]).await?;
    report.step("device-two: the owner rolls back to 1.0.0", began);
    expect_on_page(url, "A guestbook</h1>").await?;
    say("device-two's owner preferred 1.0.0 and rolled back.");
    Ok(())
}

async fn outlive(
    stage: &mut Stage,
    publisher: Who,
    one: Who,
    ticket: &str,
    report: &mut Report,
    say: Say<'_>,
) -> Result<String, DemoError> {
    stage.leave(publisher).await?;
    say("The publisher is gone.");
    let began = Instant::now();
    let from_device = stage.ask(one, &["ticket", "demo"]).await?;
    let from_device = text(&from_device, "ticket")?.to_owned();
    if from_device == ticket {
        return Err(broken("the device's ticket names no device"));
    }
    let (third, id) = stage.enter("device-three").await?;
    report.names.insert(id, "device-three".into());
    stage.ask(third, &["subscribe", &from_device, "--as", "demo"]).await?;
    let answer = stage.ask(third, &["up", "demo/guestbook@2.0.0", "--yes", "--accept-reduced"]).await?;
    report.step("device-three: provisions 2.0.0 from the other devices alone", began);
    report.fetch("device-three", &answer);
    if let Some(fetch) = report.fetched.last() {
        report.third_from_publisher = fetch.by.get("publisher").copied().unwrap_or(0);
        report.third_from_devices = fetch.by.values().sum::<u64>() - report.third_from_publisher;
    }
    if report.third_from_devices == 0 || report.third_from_publisher > 0 {
        return Err(broken(format!("device-three did not fetch from devices alone: {answer}")));
    }
    let url = page_url(&answer)?;
    expect_on_page(&url, "Our guestbook").await?;
    say("device-three provisioned 2.0.0 from the remaining devices.");
    Ok(url)
}
