//! The one binary, `softservice`: reads the command line, finds or starts the node of the home, prints its answer.
//! Invariant: the exit code is set here and only here.

mod args;
mod client;
mod commands;
mod demo;
mod error;
mod home;
mod logs;
mod session;
mod ui;

use args::{Cli, Verb};
use clap::Parser as _;
use error::CliError;
use softservice_node::verbs::failure::Kind;
use std::{io::Write as _, process::ExitCode};
use ui::Ui;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Processes of their own kind: no runtime, no logger, nothing that they would have to carry for years.
    let cli = match cli.verb {
        Verb::Keeper { arguments } => return softservice_node::device::keeper_main(arguments),
        Verb::ServeStatic { dir, port } => return softservice_node::device::serve_static(&dir, port),
        verb => Cli { verb, ..cli },
    };
    logs::listen(cli.global.verbose);
    let mut ui = Ui::new(&cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(&mut ui, Err(error.into())),
    };
    // The panic has told where it happened; scripts are told what it is.
    let work = std::panic::AssertUnwindSafe(|| runtime.block_on(commands::run(cli, &mut ui)));
    let result = std::panic::catch_unwind(work).unwrap_or_else(|_| {
        Err(CliError::new(Kind::Bug, "a bug in this program ended the verb; what it printed above helps to find it"))
    });
    // A blocking read of the terminal or of a file must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    end(&mut ui, result)
}

fn end(ui: &mut Ui, result: Result<(), CliError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.exit)
        }
    }
}

/// Help and version are answers; anything else is a usage error, in JSON when that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is no failure of ours.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let json = std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json");
    if !json {
        let _ = error.print();
        return ExitCode::from(Kind::Usage.exit());
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or("usage").trim_start_matches("error: ").to_owned();
    let rest: Vec<&str> = lines.take_while(|line| !line.starts_with("For more information")).collect();
    // A closed pipe is no failure of ours.
    let document = CliError::new(Kind::Usage, message).hint(rest.join("; ")).document();
    let _ = writeln!(std::io::stdout(), "{}", softservice_protocol::text::json(&document));
    ExitCode::from(Kind::Usage.exit())
}
