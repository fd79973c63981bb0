// SPDX-License-Identifier: GPL-2.0

//! What belongs to the command beside it: man pages, and what shells complete.

use crate::{
    failure::{Code, Failure},
    out, page,
};
use clap::Command;
use clap_complete::Shell;
use std::{fs, path::PathBuf};

/// What `completion` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap completion bash")]
pub struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

/// What `man` is told.
#[derive(clap::Args)]
pub struct ManArgs {
    /// An existing folder.
    folder: PathBuf,
}

/// Prints what a shell needs to complete the command's words.
pub fn completion(args: &CompletionArgs, command: Command) -> Result<Code, Failure> {
    let mut command = shown(command);
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "multisnap", &mut text);
    out::text(&String::from_utf8_lossy(&text))?;
    Ok(Code::Good)
}

/// Writes a man page for the command, and one for each of its commands.
pub fn man(args: &ManArgs, command: Command) -> Result<Code, Failure> {
    let mut command = shown(command).disable_help_subcommand(true);
    command.build();
    let write = |name: &str, text: String| {
        let path = args.folder.join(name);
        fs::write(&path, text).map_err(|e| Failure::io(&path, "cannot be written", &e))
    };
    write("multisnap.8", page::all(&command))?;
    for one in command.get_subcommands() {
        write(
            &format!("multisnap-{}.8", one.get_name()),
            page::one(&command, one),
        )?;
    }
    Ok(Code::Good)
}

/// The command without what people do not say.
pub fn shown(command: Command) -> Command {
    let (all, subs) = (command.clone(), command.get_subcommands());
    let visible = subs.filter(|sub| !sub.is_hide_set()).cloned();
    let root = Command::new("multisnap")
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true);
    root.subcommands(visible.collect::<Vec<_>>())
}
