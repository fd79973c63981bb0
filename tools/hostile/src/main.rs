// SPDX-License-Identifier: GPL-2.0

//! `hostile-image <input> <device>`: writes the image that an input of the fuzzer describes, and
//! prints the sectors of its chunks and the type of its store.

// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use std::io::{Error, ErrorKind, Write};

fn main() -> Result<(), Error> {
    let bad = || Error::new(ErrorKind::InvalidInput, "hostile-image <input> <device>");
    let mut args = std::env::args_os().skip(1);
    let input = std::fs::read(args.next().ok_or_else(bad)?)?;
    let device = args.next().ok_or_else(bad)?;
    let (store_type, chunk_sectors, image) = fuzz::image(&input).ok_or_else(bad)?;
    let mut device = std::fs::OpenOptions::new().write(true).open(device)?;
    device.write_all(&image)?;
    device.sync_all()?;
    println!("{chunk_sectors} {}", store_type.name());
    Ok(())
}
