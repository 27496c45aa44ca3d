//! Imports that somebody else binds, and pins of what is included.

use crate::shelf::{Folder, Shelf, changed, shown};
use softservice_protocol::definition::{self, Lock, Locked};

const LIBRARY: &str = r#"
format = 1
distro = { name = "log-reader", version = "1.0.0" }
[role.main]
import.log = { type = "log/1" }
export.page = { type = "http/1", port = "http" }
[role.main.service.reader]
command = ["/bin/reader", "${import.log.address}", "${import.log.format}", "${port.http}"]
"#;

const BINDER: &str = r#"
format = 1
distro = { name = "whole", version = "1.0.0" }
[include.reader]
distro = "bob/log-reader"
version = "^1"
bind = { log = "main.log" }
[role.main]
export.log = { type = "log/1", port = "log", fields = { format = "json" } }
"#;

#[test]
fn an_open_import_is_bound_by_whoever_includes_the_distro() {
    let mut shelf = Shelf::default();
    shelf.publish("bob", LIBRARY);
    let whole = shelf.compile("alice", BINDER).unwrap();
    assert_eq!(whole.includes[0].bind, [("log".to_owned(), "main.log".to_owned())]);
    let refused = |text: String| shown(&shelf.compile("alice", &text).unwrap_err());
    let unbound = refused(changed(BINDER, "bind = { log = \"main.log\" }\n", ""));
    assert!(unbound.contains("nothing is bound to it (add `bind = { log = "), "{unbound}");
    let kind = refused(changed(BINDER, "type = \"log/1\"", "type = \"log/2\""));
    assert!(kind.contains("distro.toml:7:17: error: main.log is log/2, wanted is log/1"), "{kind}");
    let field = refused(changed(BINDER, "format = \"json\"", "colour = \"red\""));
    assert!(field.contains("the field \"format\" is used, which main.log has not"), "{field}");
}

#[test]
fn a_pin_that_no_longer_fits_is_told_and_never_compiled() {
    let mut shelf = Shelf::default();
    shelf.publish("bob", LIBRARY);
    let d = definition::read(&changed(BINDER, "\"^1\"", "\"^2\"")).unwrap();
    let lock = Lock { includes: vec![Locked { name: "reader".into(), ..shelf.pins["log-reader"].clone() }] };
    let folder = Folder::for_all_of(&d);
    let told = definition::check(&d, Some(&lock), &folder);
    assert!(told.iter().all(|p| !p.is_error()), "{}", shown(&told));
    assert!(
        shown(&told)
            .contains("distro.lock pins log-reader 1.0.0, which is not within ^2 (publishing chooses it again)")
    );
    let refused = shown(&shelf.compile_in("alice", &d, &folder).unwrap_err());
    assert!(refused.contains("distro.toml:6:11: error: distro.lock pins log-reader 1.0.0"), "{refused}");
}
