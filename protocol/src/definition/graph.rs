//! Who waits for whom: services within a role, roles within a distro. Invariant: orders depend on names and edges only,
//! never on where something stands in a text; no recursion, because a foreign release may be as deep as it is long.

use crate::release::{Release, Role, Service};
use std::collections::{BTreeMap, BTreeSet};

/// Circles that are told: each is looked for in the whole graph anew.
const CIRCLES: usize = 8;

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Nodes so that each comes after what it needs; smallest name first where that leaves a choice. Nodes on or above a
/// cycle are left out.
fn topological(edges: &Edges) -> Vec<String> {
    let mut waits: BTreeMap<&str, usize> = BTreeMap::new();
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, needs) in edges {
        let known: Vec<&String> = needs.iter().filter(|n| edges.contains_key(*n)).collect();
        waits.insert(node, known.len());
        for need in known {
            needed_by.entry(need).or_default().push(node);
        }
    }
    let mut ready: BTreeSet<&str> = waits.iter().filter(|(_, n)| **n == 0).map(|(node, _)| *node).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(node) = ready.pop_first() {
        order.push(node.to_owned());
        for other in needed_by.get(node).into_iter().flatten() {
            if let Some(n) = waits.get_mut(other) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    ready.insert(other);
                }
            }
        }
    }
    order
}

/// Circles of needs, each spelled from a node back to itself.
fn circles(mut edges: Edges) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    while found.len() < CIRCLES {
        for done in topological(&edges) {
            edges.remove(&done);
        }
        // Whatever is left needs something that is left: following the needs must come back.
        let Some(mut at) = edges.keys().next().cloned() else { return found };
        let (mut path, mut seen) = (Vec::new(), BTreeSet::new());
        while seen.insert(at.clone()) {
            path.push(at.clone());
            let Some(next) = edges.get(&at).and_then(|n| n.iter().find(|n| edges.contains_key(*n))) else {
                return found;
            };
            at = next.clone();
        }
        let mut circle: Vec<String> = path.iter().skip_while(|n| **n != at).cloned().collect();
        for node in &circle {
            edges.remove(node);
        }
        circle.push(at);
        found.push(circle);
    }
    found
}

/// Puts services into start order.
pub(crate) fn order_services(services: &mut [Service]) {
    let edges: Edges = services.iter().map(|s| (s.name.clone(), s.depends_on.iter().cloned().collect())).collect();
    let order = topological(&edges);
    let rank = |s: &Service| order.iter().position(|n| *n == s.name).unwrap_or(usize::MAX);
    services.sort_by(|a, b| (rank(a), &a.name).cmp(&(rank(b), &b.name)));
}

/// Names every role in the order of an update: first those that the author ordered, then who is imported before who
/// imports.
pub(crate) fn complete_order(release: &mut Release) {
    let edges: Edges =
        release.roles.iter().map(|r| (r.name.clone(), imported_roles(r).map(str::to_owned).collect())).collect();
    let rest = topological(&edges).into_iter().chain(edges.keys().cloned());
    for name in rest {
        if !release.update.order.contains(&name) {
            release.update.order.push(name);
        }
    }
}

fn imported_roles(role: &Role) -> impl Iterator<Item = &str> {
    role.imports
        .iter()
        .filter_map(|i| i.from.as_deref()?.split_once('.'))
        .map(|(of, _)| of)
        .filter(|of| *of != role.name)
}

/// Services that wait for each other for ever: `web.app -> data.db -> web.app`.
///
/// Between a service and the role that it imports from stands a node of its own, `data.`: edges from every service to
/// every other would multiply.
pub(crate) fn waiting_circles(release: &Release) -> Vec<Vec<String>> {
    let mut edges = Edges::new();
    for role in &release.roles {
        let all = role.services.iter().map(|s| format!("{}.{}", role.name, s.name));
        edges.insert(format!("{}.", role.name), all.collect());
        for service in &role.services {
            let need = |need: &String| match need.strip_prefix("import.") {
                None => Some(format!("{}.{need}", role.name)),
                Some(import) => {
                    let from = role.imports.iter().find(|i| i.name == import)?.from.as_deref()?;
                    from.split_once('.').map(|(of, _)| format!("{of}."))
                }
            };
            let needs = service.depends_on.iter().filter_map(need).collect();
            edges.insert(format!("{}.{}", role.name, service.name), needs);
        }
    }
    let spelled = |mut circle: Vec<String>| {
        circle.pop();
        circle.retain(|node| !node.ends_with('.'));
        circle.extend(circle.first().cloned());
        circle
    };
    circles(edges).into_iter().map(spelled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> Edges {
        list.iter().map(|(n, needs)| ((*n).to_owned(), needs.iter().map(|s| (*s).to_owned()).collect())).collect()
    }

    #[test]
    fn needs_come_first_and_names_break_ties() {
        assert_eq!(topological(&edges(&[("a", &["c"]), ("b", &[]), ("c", &[])])), ["b", "c", "a"]);
    }

    #[test]
    fn every_circle_is_spelled() {
        let found = circles(edges(&[("a", &["b"]), ("b", &["a"]), ("c", &["c"]), ("d", &["a"]), ("e", &[])]));
        assert_eq!(found, [vec!["a", "b", "a"], vec!["c", "c"]]);
    }
}
