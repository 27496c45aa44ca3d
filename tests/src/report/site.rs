//! A static site that is updated while people visit it: a role without data, and so start-first.

use super::{
    figures::Figure,
    load::{Load, Visit},
};
use crate::{
    World,
    api::{self, call},
    sources::{put, text},
    visit,
};
use serde_json::json;
use std::{net::SocketAddr, path::Path, time::Duration};

fn write(folder: &Path, edition: usize) {
    let toml = format!(
        r#"format = 1
[distro]
name = "site"
version = "{edition}.0.0"
[role.main.artifact]
site = {{ tree = "site" }}
[role.main.service.web]
command = ["${{softservice}}", "serve-static", "${{artifact.site}}", "${{port.http}}"]
healthcheck = {{ http = ":${{port.http}}/", interval = "100ms" }}
[role.main]
export.page = {{ type = "http/1", port = "http" }}
[test]
answers = {{ on = "main", http = "${{main.page.url}}/", status = 200, within = "10s" }}
[update]
settle = "200ms"
"#
    );
    put(&folder.join("distro.toml"), &toml);
    put(&folder.join("site/index.html"), &page(edition));
}

fn page(edition: usize) -> String {
    format!("<!doctype html><title>site</title><h1>edition {edition}</h1>\n")
}

/// From the end of one edition's last answer to the end of the next one's first; below nothing when both served at once.
fn gap(visits: &[Visit], from: usize, to: usize) -> Option<f64> {
    let ended = |edition: usize| {
        let of_it = move |v: &&Visit| v.answer.as_ref().is_ok_and(|body| *body == page(edition));
        visits.iter().filter(of_it).map(|v| v.ended.as_secs_f64() * 1000.0)
    };
    Some(ended(to).reduce(f64::min)? - ended(from).reduce(f64::max)?)
}

pub(super) fn measure(world: &World, updates: usize, rate: u32) -> Vec<Figure> {
    let node = world.node("site");
    let folder = world.path("site-source");
    for edition in [1, 2] {
        write(&folder, edition);
        node.ok(&["publish", text(&folder)]);
    }
    let up = |edition: usize| {
        let answer = api::up(&node.home, &format!("site@{edition}.0.0"));
        answer.unwrap_or_else(|e| panic!("{e:?}\n{}", node.log()))
    };
    let url = visit::url(&up(1));
    let address: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");

    let load = Load::begin(address, rate);
    let between = rate as usize / 3;
    let (mut windows, mut took) = (Vec::new(), Vec::new());
    for number in 0..updates {
        // Some visits between two updates, so that each is seen by itself.
        load.passes(between);
        let (from, to) = (number % 2 + 1, (number + 1) % 2 + 1);
        let began = load.began.elapsed();
        up(to);
        took.push(load.began.elapsed() - began);
        windows.push((from, to, began));
    }
    load.passes(between);
    let visits = load.end();
    call(&node.home, "remove", &json!({ "name": "site", "data": true })).expect("it can be removed");

    let failed: Vec<&Visit> = visits.iter().filter(|v| v.answer.is_err()).collect();
    for visit in &failed {
        eprintln!("failed: due {:?}, ended {:?}: {:?}", visit.due, visit.ended, visit.answer);
    }
    let ends: Vec<Duration> = windows.iter().skip(1).map(|w| w.2).chain([Duration::MAX]).collect();
    let gaps = windows.iter().zip(ends).filter_map(|((from, to, began), end)| {
        let within: Vec<Visit> = visits.iter().filter(|v| v.ended >= *began && v.ended < end).cloned().collect();
        gap(&within, *from, *to)
    });
    let latency: Vec<Duration> = visits.iter().map(|v| v.ended.saturating_sub(v.due)).collect();
    vec![
        Figure::count(format!("requests at {rate}/s during {updates} start-first updates"), "", visits.len()),
        Figure::count("of them failed", "0", failed.len()),
        Figure::times("their latency, from when they were due", "", &latency),
        Figure::differences(
            "hand-over: last answer of the old to first of the new",
            "5 ms lie between two requests",
            gaps.collect(),
        ),
        Figure::times("a start-first update, from the call to confirmed", "", &took),
    ]
}
