// SPDX-License-Identifier: GPL-2.0

//! What belongs to the command beside it: man pages, and what shells complete.

use crate::{
    failure::{Code, Failure},
    out,
};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What `completion` is told.
#[derive(clap::Args)]
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
    for one in command.get_subcommands().chain([&command]) {
        let page = Man::new(one.clone())
            .section("8")
            .source("multisnapshot")
            .manual("System Administration");
        let path = args.folder.join(page.get_filename());
        write(&page, &path).map_err(|e| Failure::io(&path, "cannot be written", &e))?;
    }
    Ok(Code::Good)
}

/// What each page ends with.
const END: &str = r#".SH "EXIT STATUS"
0: all is well. 1: the store is damaged, or something is lost. 2: it cannot be done; one line on
standard error says why, and what to do. 3: sound, but not stopped in good order (check only).
.SH "SEE ALSO"
multisnap(8), dmsetup(8), Documentation/multisnap.rst
"#;

fn write(page: &Man, path: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH NOTES");
    File::create(path)?.write_all((text + END).as_bytes())
}

/// The command without what people do not say.
fn shown(command: Command) -> Command {
    let (all, subs) = (command.clone(), command.get_subcommands());
    let visible = subs.filter(|sub| !sub.is_hide_set()).cloned();
    let root = Command::new("multisnap")
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true);
    root.subcommands(visible.collect::<Vec<_>>())
}
