//! What a definition declares and nothing uses: mostly the trace of something that was meant and forgotten.

use super::Texts;
use crate::definition::{
    Definition, Fault, references,
    substitution::{self, Reference},
};
use std::collections::BTreeSet;

/// Parameters, secrets and artifacts that nothing names.
pub(super) fn of(d: &Definition, texts: &Texts) -> Vec<Fault> {
    let mut named: BTreeSet<(Option<String>, Reference)> = BTreeSet::new();
    let mut read = |role: Option<&str>, text: &str| {
        named.extend(substitution::references(text).into_iter().map(|r| (role.map(str::to_owned), r)));
    };
    for text in references::texts_of(&d.draft) {
        read(text.role, text.text);
    }
    for ((role, _), text) in texts {
        read(Some(role), text);
    }
    let anywhere = |wanted: &Reference| named.iter().any(|(_, found)| found == wanted);
    let mut f = Vec::new();
    let mut unused = |at: String, what: &str, name: &str, how: String| {
        f.push(Fault::new(at, format!("nothing uses the {what} {name:?}")).hint(Some(how)));
    };
    for p in &d.draft.params {
        if !anywhere(&Reference::Param(p.name.clone())) {
            let how = format!("write `${{param.{}}}` where the answer belongs, or ask nothing", p.name);
            unused(format!("param.{}", p.name), "parameter", &p.name, how);
        }
    }
    for s in &d.draft.secrets {
        let listed = d.draft.roles.iter().any(|r| {
            let exported = r.exports.iter().flat_map(|e| &e.secrets).any(|(_, secret)| *secret == s.name);
            exported || r.services.iter().any(|service| service.secrets.contains(&s.name))
        });
        if !listed && !anywhere(&Reference::Secret(s.name.clone())) {
            let how = format!("list it in the `secrets` of the service that reads `${{secret.{}}}`", s.name);
            unused(format!("secret.{}", s.name), "secret", &s.name, how);
        }
    }
    for role in &d.draft.roles {
        for a in &role.artifacts {
            let named = named.contains(&(Some(role.name.clone()), Reference::Artifact(a.name.clone())));
            let root = role.services.iter().any(|s| s.root.as_ref() == Some(&a.name));
            if !named && !root {
                let how =
                    format!("write `${{artifact.{}}}` where its path belongs; it travels to every device", a.name);
                unused(format!("role.{}.artifact.{}", role.name, a.name), "artifact", &a.name, how);
            }
        }
    }
    f
}
