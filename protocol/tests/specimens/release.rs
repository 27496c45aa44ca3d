//! A release that says everything a release can say.

use super::tree;
use softservice_protocol::{
    id::{PublisherId, ReleaseId},
    release::*,
    time::Span,
};

pub(crate) fn release() -> Release {
    Release {
        publisher: PublisherId([1; 32]),
        distro: "guestbook".into(),
        version: "1.2.3".into(),
        revision: 4,
        summary: "A guestbook for a home".into(),
        platforms: vec!["linux/amd64".into(), "linux/arm64".into()],
        epoch: 2,
        parents: vec![Parent {
            publisher: PublisherId([2; 32]),
            release: ReleaseId([3; 32]),
            label: "guestbook 1.2.2".into(),
        }],
        includes: vec![include()],
        params: params(),
        secrets: [Generate::Bytes(32), Generate::Words(6), Generate::Password(20), Generate::Keypair]
            .map(secret)
            .to_vec(),
        roles: vec![role()],
        tests: tests(),
        update: Update {
            order: vec!["data".into(), "web".into()],
            settle: Span::seconds(30),
            migrate: Some(Migrate {
                from_epoch: 1,
                role: "data".into(),
                command: vec!["migrate".into()],
                needs_snapshot: true,
            }),
        },
        source: tree(9),
    }
}

fn include() -> Include {
    Include {
        name: "db".into(),
        publisher: PublisherId([4; 32]),
        distro: "postgresql".into(),
        version: "17.0.0".into(),
        release: ReleaseRef { id: ReleaseId([5; 32]), size: 4321 },
        role: "data".into(),
        with: vec![("size".into(), "${param.size}".into())],
        bind: vec![("log".into(), "data.log".into())],
    }
}

fn params() -> Vec<Param> {
    let kinds = [
        ParamKind::Text,
        ParamKind::Int,
        ParamKind::Bool,
        ParamKind::Enum(vec!["small".into(), "large".into()]),
        ParamKind::Size,
        ParamKind::Duration,
        ParamKind::Hostname,
        ParamKind::Port,
        ParamKind::Url,
        ParamKind::Path,
    ];
    let param = |(i, kind)| Param {
        name: format!("p{i}"),
        kind,
        ask: "How much?".into(),
        default: (i % 2 == 0).then(|| "1".into()),
        min: (i == 1).then_some(-1),
        max: (i == 1).then_some(i64::MAX),
    };
    kinds.into_iter().enumerate().map(param).collect()
}

fn secret(generate: Generate) -> Secret {
    Secret { name: "admin".into(), generate, roles: vec!["data".into()], show_once: true }
}

fn probes() -> [Probe; 3] {
    [
        Probe::Http { url: ":${port.http}/".into(), status: 200, contains: Some("hello".into()) },
        Probe::Tcp { address: "${db.address}".into() },
        Probe::Exec { command: vec!["check".into(), "--all".into()] },
    ]
}

fn tests() -> Vec<Test> {
    let test = |probe| Test {
        name: "greets".into(),
        role: "data".into(),
        probe,
        within: Span::seconds(20),
        when: vec!["install".into(), "update".into()],
    };
    probes().map(test).to_vec()
}

fn hook(kind: HookKind) -> Hook {
    Hook { kind, command: vec!["${artifact.server}/dump".into(), "${backup}".into()], within: Span::seconds(60) }
}

fn role() -> Role {
    let service = |(i, restart): (usize, Restart)| Service {
        name: format!("s{i}"),
        command: vec!["${artifact.server}/serve".into(), "${port.http}".into()],
        environment: vec![("LANG".into(), "C.UTF-8".into())],
        secrets: vec!["admin".into()],
        depends_on: vec!["db".into()],
        restart,
        stop_signal: [StopSignal::Term, StopSignal::Int, StopSignal::Quit][i],
        stop_grace_period: Span::seconds(10),
        healthcheck: probes().into_iter().nth(i).map(|probe| Healthcheck {
            probe,
            interval: Span::seconds(1),
            timeout: Span::seconds(2),
            start_period: Span::seconds(3),
            retries: 4,
        }),
        root: (i == 1).then(|| "host".into()),
    };
    Role {
        name: "data".into(),
        devices_min: 1,
        devices_max: Some(3),
        needs_memory: Some(64 << 20),
        needs_disk: None,
        imports: vec![Import { name: "db".into(), kind: "postgresql/1".into(), from: Some("db.main".into()) }],
        exports: vec![Export {
            name: "page".into(),
            kind: "http/1".into(),
            port: Some("http".into()),
            from: None,
            fields: vec![("path".into(), "/book".into())],
            secrets: vec![("password".into(), "admin".into())],
        }],
        artifacts: vec![Artifact { name: "server".into(), trees: vec![("any".into(), tree(6))] }],
        volumes: vec![Volume {
            name: "entries".into(),
            mount: Some("/data".into()),
            backup: "copy".into(),
            keep_on_remove: true,
        }],
        ports: vec![Port { name: "http".into(), wish: Some(8080) }, Port { name: "log".into(), wish: None }],
        files: vec![File {
            path: "conf/app.toml".into(),
            template: "port = ${port.http}\n".into(),
            mode: 0o640,
            on_change: "restart".into(),
        }],
        services: [Restart::No, Restart::OnFailure, Restart::Always].into_iter().enumerate().map(service).collect(),
        allow: Allow {
            listen: vec!["tcp:8080".into()],
            connect: vec!["internet:443".into()],
            write: vec!["entries".into()],
            read: vec!["/etc/ssl".into()],
            memory: Some(128 << 20),
            cpu: Some(500),
            processes: None,
        },
        hooks: [HookKind::Backup, HookKind::Restore].map(hook).to_vec(),
    }
}
