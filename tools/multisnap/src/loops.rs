// SPDX-License-Identifier: GPL-2.0

//! Loop devices, which are files by another name.

use crate::dm::{node, wire::Dev};
use std::{
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// What tells a device, or a file, from all others.
pub fn number(meta: &Metadata) -> (bool, u64, u64) {
    match meta.file_type().is_block_device() {
        true => (true, meta.rdev(), 0),
        false => (false, meta.dev(), meta.ino()),
    }
}

/// The file that is behind a loop device.
pub fn backing(meta: &Metadata) -> Option<PathBuf> {
    if !meta.file_type().is_block_device() {
        return None;
    }
    let dev = Dev::from_stat(meta.rdev());
    named_in(&PathBuf::from(format!("/sys/dev/block/{dev}")))
}

/// What is said in a device's folder below /sys.
fn named_in(folder: &Path) -> Option<PathBuf> {
    let name = fs::read_to_string(folder.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(name.trim_end_matches('\n')))
}

/// The loop device that makes a file part of another device, or of a mounted file system; and what
/// that is.
pub fn user(meta: &Metadata) -> Option<(String, String)> {
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    devices.map(|device| device.path()).find_map(|folder| {
        let behind = fs::metadata(named_in(&folder)?).ok()?;
        if number(&behind) != number(meta) {
            return None;
        }
        let dev: Dev = fs::read_to_string(folder.join("dev"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let (what, _) = node::users(dev)?;
        Some((node::show(dev), what))
    })
}
