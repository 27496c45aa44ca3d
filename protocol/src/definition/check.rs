//! The folder beside a definition. Invariant: what stops a publication is an error here already; advice is a warning and
//! stops nothing.

use super::{
    Definition, Fault, Lock, Problem, Severity, Sources, advice, lock,
    references::{self, Scope},
    roles, source, trees,
};
use std::collections::BTreeMap;

/// Checks what a definition needs of the folder beside it, and gives advice. Errors come first.
pub fn check(definition: &Definition, lock: Option<&Lock>, sources: &dyn Sources) -> Vec<Problem> {
    let mut problems = folders(definition, sources);
    let (texts, wrong) = templates(definition, sources);
    problems.extend(wrong);
    let empty = Lock::default();
    let (wrong, floating) = lock::fit(definition, lock.unwrap_or(&empty));
    // A pin that no longer fits is no mistake of the author's: it is chosen again before anything is compiled.
    let again = || Some("publishing chooses it again".to_owned());
    let outdated = wrong.into_iter().map(|f| f.hint(again()));
    problems.extend(outdated.chain(floating).map(|f| definition.warning(f)));
    problems.extend(advice::of(definition, &texts));
    problems.sort_by(|a, b| (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column)));
    problems.dedup();
    problems
}

fn folders(d: &Definition, sources: &dyn Sources) -> Vec<Problem> {
    let missing = trees(d).into_iter().filter(|t| !sources.is_dir(&t.dir));
    let fault = |t: super::TreeSource| {
        let what = if sources.is_file(&t.dir) { "is a file, not a folder" } else { "does not exist" };
        Fault::new(format!("role.{}.artifact.{}.tree", t.role, t.artifact), format!("the folder {:?} {what}", t.dir))
            .hint(Some(format!("build it, or point `tree` at the folder that becomes ${{artifact.{}}}", t.artifact)))
    };
    missing.map(|t| d.problem(fault(t))).collect()
}

/// The texts of all templates by role and path, and what is wrong with them.
pub(crate) fn templates(d: &Definition, sources: &dyn Sources) -> (BTreeMap<(String, String), String>, Vec<Problem>) {
    let (mut texts, mut problems) = (BTreeMap::new(), Vec::new());
    for t in &d.templates {
        let at = format!("role.{}.file.{}.template", t.role, t.path);
        let Some(text) = sources.text(&t.template) else {
            let why = if sources.is_file(&t.template) { "is not readable UTF-8 text" } else { "does not exist" };
            problems.push(d.problem(Fault::new(at, format!("the template {:?} {why}", t.template))));
            continue;
        };
        if let Some(role) = d.draft.roles.iter().find(|r| r.name == t.role) {
            let mut role = role.clone();
            roles::declare_used(&mut role.ports, &text);
            let mut faults = Vec::new();
            references::template(&mut faults, &d.draft, "", &text, Scope::Role(&role));
            for fault in faults {
                let offset = fault.token.as_deref().and_then(|token| text.find(token)).unwrap_or(0);
                let (line, column) = source::position(&text, offset);
                let (file, severity) = (t.template.clone(), Severity::Error);
                problems.push(Problem { file, line, column, severity, message: fault.message, hint: fault.hint });
            }
        }
        texts.insert((t.role.clone(), t.path.clone()), text);
    }
    (texts, problems)
}
