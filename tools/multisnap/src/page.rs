// SPDX-License-Identifier: GPL-2.0

//! A man page: what clap knows of a command, and the text for it in the folder `man`.
//!
//! A text begins with what follows the first sentence of the description. Sections of its own may
//! follow; options come before them.

use clap::{Arg, ArgAction, Command};

/// When the texts were last changed.
const DATE: &str = "2026-11-27";

/// The page of the program.
pub fn all(program: &Command) -> String {
    let mut page = head(
        "multisnap",
        "make snapshots of block devices, and look into stores",
    );
    page += ".SH SYNOPSIS\n";
    for command in program.get_subcommands() {
        page += &synopsis(command);
    }
    let (text, sections) = split(include_str!("../man/multisnap.man"));
    page += ".SH DESCRIPTION\n";
    page += text;
    page += ".SH COMMANDS\n";
    for command in program.get_subcommands() {
        let name = roff(command.get_name());
        page += &format!(".TP\n.BR multisnap\\-{name} (8)\n{}.\n", about(command));
    }
    page += sections;
    page += EXIT;
    let names = program.get_subcommands().map(Command::get_name);
    let others = [
        "multisnapshot (7)",
        "multisnap\\-lvm (8)",
        "dmsetup (8)",
        "lvm (8)",
    ];
    page + &see_also(names, &others)
}

/// The page of one command of the program.
pub fn one(program: &Command, command: &Command) -> String {
    let name = command.get_name();
    let about = about(command);
    let mut page = head(&format!("multisnap-{name}"), &lower(&about));
    page += ".SH SYNOPSIS\n";
    page += &synopsis(command);
    let (text, sections) = split(words(name).unwrap_or_default());
    page += &format!(".SH DESCRIPTION\n{about}.\n{text}");
    page += ".SH OPTIONS\n";
    for arg in arguments(command) {
        page += &option(arg);
    }
    page += &example(command);
    page += sections;
    page += EXIT;
    // Those before and after it, which are its kin.
    let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
    let at = names.iter().position(|other| *other == name).unwrap_or(0);
    let near = names
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != at && i.abs_diff(at) < 3);
    let mut others = vec!["multisnap (8)", "multisnapshot (7)"];
    if matches!(name, "under" | "out") {
        others.push("multisnap\\-lvm (8)");
    }
    page + &see_also(near.map(|(_, name)| *name), &others)
}

/// What there is to say of a command, beside what clap knows.
fn words(name: &str) -> Option<&'static str> {
    Some(match name {
        "create" => include_str!("../man/create.man"),
        "start" => include_str!("../man/start.man"),
        "under" => include_str!("../man/under.man"),
        "out" => include_str!("../man/out.man"),
        "stop" => include_str!("../man/stop.man"),
        "snapshot" => include_str!("../man/snapshot.man"),
        "list" => include_str!("../man/list.man"),
        "status" => include_str!("../man/status.man"),
        "activate" => include_str!("../man/activate.man"),
        "deactivate" => include_str!("../man/deactivate.man"),
        "enable" => include_str!("../man/enable.man"),
        "disable" => include_str!("../man/disable.man"),
        "rename" => include_str!("../man/rename.man"),
        "remove" => include_str!("../man/remove.man"),
        "prune" => include_str!("../man/prune.man"),
        "grow" => include_str!("../man/grow.man"),
        "check" => include_str!("../man/check.man"),
        "dump" => include_str!("../man/dump.man"),
        "restore" => include_str!("../man/restore.man"),
        "repair" => include_str!("../man/repair.man"),
        "cat" => include_str!("../man/cat.man"),
        "map" => include_str!("../man/map.man"),
        "completion" => include_str!("../man/completion.man"),
        _ => return None,
    })
}

/// What each page says of the exit status.
const EXIT: &str = r#".SH "EXIT STATUS"
.TP
.B 0
All is well.
.TP
.B 1
The store is damaged, or something is lost.
.TP
.B 2
It could not be done: wrong usage, no store, no space, in use, an I/O error.
One line on standard error names the device and says what to do.
.TP
.B 3
.BR multisnap\-check (8)
only: the store is sound, but was not stopped in good order.
"#;

fn head(name: &str, about: &str) -> String {
    format!(
        ".\\\" SPDX-License-Identifier: GPL-2.0\n.TH {} 8 {DATE} \"multisnapshot {}\" \
        \"System Administration\"\n.SH NAME\n{} \\- {about}\n",
        roff(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        roff(name)
    )
}

/// The command's sentence, without its full stop.
fn about(command: &Command) -> String {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    roff(about.trim_end_matches('.'))
}

/// Text with a small letter at its beginning, and its first sentence only.
fn lower(text: &str) -> String {
    let first = text.split(". ").next().unwrap_or(text);
    let mut letters = first.chars();
    let begin = letters.next().map(|c| c.to_lowercase().to_string());
    begin.unwrap_or_default() + letters.as_str()
}

/// What can be said to a command: first what it works on.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let said =
        |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let positional = command
        .get_arguments()
        .filter(said)
        .filter(|arg| arg.is_positional());
    positional.chain(
        command
            .get_arguments()
            .filter(said)
            .filter(|arg| !arg.is_positional()),
    )
}

fn synopsis(command: &Command) -> String {
    let mut text = format!(".SY multisnap\\ {}\n", roff(command.get_name()));
    for arg in arguments(command) {
        let words = form(arg).replace(' ', "\\ ");
        text += &match (arg.is_required_set(), many(arg)) {
            (true, true) => format!("{words}\\|.\\|.\\|.\\&\n"),
            (true, false) => format!("{words}\n"),
            (false, true) => format!("[{words}\\|.\\|.\\|.]\\&\n"),
            (false, false) => format!("[{words}]\n"),
        };
    }
    text + ".YS\n"
}

fn option(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        ".TP\n{}\n{}.\n",
        form(arg),
        roff(help.trim_end_matches('.'))
    );
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("\\fB{}\\fR", roff(value.get_name())))
        .collect();
    if let Some((last, others)) = possible.split_last() {
        text += &format!("One of {} and {last}.\n", others.join(", "));
    }
    let defaults = arg.get_default_values();
    if let (Some(default), true) = (defaults.first(), arg.get_action().takes_values()) {
        text += &format!(
            "The default is \\fB{}\\fR.\n",
            roff(&default.to_string_lossy())
        );
    }
    text
}

/// An argument as it is said: names in bold, what stands for something else in italics.
fn form(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names
        .iter()
        .map(|name| format!("\\fI{}\\fR", roff(&name.replace('_', "-"))));
    let value = value.collect::<Vec<_>>().join(" ");
    if arg.is_positional() {
        return value;
    }
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = arg
        .get_long()
        .map(|long| format!("\\fB\\-\\-{}\\fR", roff(long)));
    let name = short.into_iter().chain(long).collect::<Vec<_>>().join("|");
    if arg.get_action().takes_values() {
        format!("{name} {value}")
    } else {
        name
    }
}

/// Whether it can be said more than once.
fn many(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
        || arg
            .get_num_args()
            .is_some_and(|range| range.max_values() > 1)
}

/// What clap shows after the help is an example.
fn example(command: &Command) -> String {
    let after = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    match after.strip_prefix("Example: ") {
        Some(line) => format!(".SH EXAMPLES\n.EX\n{}\n.EE\n", roff(line)),
        None => String::new(),
    }
}

fn see_also<'a>(names: impl Iterator<Item = &'a str>, others: &[&str]) -> String {
    let mut pages: Vec<String> = others.iter().map(ToString::to_string).collect();
    pages.extend(names.map(|name| format!("multisnap\\-{} (8)", roff(name))));
    pages.sort();
    let lines: Vec<String> = pages.iter().map(|page| format!(".BR {page}")).collect();
    format!(".SH \"SEE ALSO\"\n{}\n", lines.join(" ,\n"))
}

/// The text of a command, and its sections.
fn split(text: &str) -> (&str, &str) {
    let at = text.find("\n.SH ").map_or(text.len(), |at| at + 1);
    text.split_at(at)
}

/// Text as roff takes it.
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    match text.strip_prefix('.') {
        Some(rest) => format!("\\&.{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{one, words};
    use crate::{pages::shown, Cli};
    use clap::CommandFactory;

    /// A command that is added gets a text as well.
    #[test]
    fn each_command_has_a_text() {
        for command in shown(Cli::command()).get_subcommands() {
            let name = command.get_name();
            let text = words(name).unwrap_or_default();
            assert!(
                !text.is_empty(),
                "page.rs: no text in man/ for the command {name}"
            );
            assert!(text.ends_with('\n'), "man/{name}.man: ends within a line");
        }
    }

    #[test]
    fn a_page_has_what_clap_knows() {
        let mut program = shown(Cli::command()).disable_help_subcommand(true);
        program.build();
        let find = |name| program.find_subcommand(name).expect("there is one");
        let page = one(&program, find("remove"));
        assert!(
            page.contains("\nmultisnap\\-remove \\- remove snapshots for good\n"),
            "{page}"
        );
        assert!(
            page.contains("\n\\fIVOLUME\\fR\n[\\fISNAPSHOT\\fR\\|.\\|.\\|.]\\&\n"),
            "{page}"
        );
        assert!(
            page.contains("\n[\\fB\\-\\-older\\-than\\fR\\ \\fISPAN\\fR]\n"),
            "{page}"
        );
        assert!(page
            .contains("\n.EX\nmultisnap remove home \\(aqdaily\\-*\\(aq 3\\-7 \\-\\-dry\\-run\n"));
        let page = one(&program, find("create"));
        assert!(
            page.contains("One of \\fBbtree\\fR and \\fBbitmask\\fR.\n"),
            "{page}"
        );
        assert!(page.contains("The default is \\fB16K\\fR.\n"), "{page}");
    }
}
