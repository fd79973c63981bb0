// SPDX-License-Identifier: GPL-2.0

//! `multisnap disable`: takes back what `enable` has done.

use super::{config, lock::Lock, volume::Devices};
use crate::{
    dm::{node, Control},
    failure::{Code, Failure},
    out,
};
use serde::Serialize;
use std::path::Path;

/// What `disable` is told.
#[derive(clap::Args)]
#[command(after_help = "Example: multisnap disable home before-upgrade")]
pub struct Args {
    /// The origin.
    volume: String,
    /// Snapshots, in the words of the file. The origin, and so all, if none is said.
    snapshot: Vec<String>,
    /// Print an object instead of nothing.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Disabled<'a> {
    volume: &'a str,
    snapshots: &'a [String],
}

/// Removes the origin's file, or lines of it. Nothing is stopped.
pub fn run(args: &Args) -> Result<Code, Failure> {
    let control = Control::open()?;
    let name = match config::exists(&args.volume) {
        true => args.volume.clone(),
        false => Devices::find(&control)?.volume(&args.volume)?.name.clone(),
    };
    let _lock = Lock::take_file(&name)?;
    let mut text = config::text(&name)?;
    if args.snapshot.is_empty() {
        // A file that cannot be read is removed all the same.
        let config = config::read(&name).ok();
        config::remove(&name)?;
        for path in config.iter().flat_map(|it| [&it.origin, &it.store]) {
            if let Some(dev) = node::dev_at(path) {
                node::look_again(dev);
            }
        }
        if config::is_early(&text) {
            out::warn(&format!(
                "the initramfs may have {name}, and wait for it at the next start: make it again \
                 (update-initramfs -u)"
            ));
        }
    } else {
        for word in &args.snapshot {
            let (rest, had) = config::without_snapshot(&text, word);
            if !had {
                let path = config::path(&name);
                let what = format!("has no line for snapshot {word}");
                let then = format!("see which it has: grep snapshot {}", path.display());
                return Err(Failure::new(Path::new(&path), what, then));
            }
            text = rest;
        }
        config::write(&name, &text)?;
    }
    if args.json {
        out::line(&Disabled {
            volume: &name,
            snapshots: &args.snapshot,
        })?;
    }
    Ok(Code::Good)
}
