// SPDX-License-Identifier: GPL-2.0

//! `hostile-image <input> <device> <its bytes> <sectors of the origin>`: writes the image that an
//! input of the fuzzer describes, and prints the sectors of its chunks, the type of its store, and
//! whether a load on the host takes it: `taken`, or `refused` and why.

// What the kernel build does not use is found there.
#![allow(dead_code, unused_imports)]

#[path = "../../../src/store/mod.rs"]
mod store;

#[path = "../../../tests/fuzz/mod.rs"]
mod fuzz;

use std::io::{Error, ErrorKind, Write};

fn main() -> Result<(), Error> {
    let bad = || {
        Error::new(
            ErrorKind::InvalidInput,
            "hostile-image <input> <device> <bytes> <sectors>",
        )
    };
    let mut args = std::env::args_os().skip(1);
    let input = std::fs::read(args.next().ok_or_else(bad)?)?;
    let device = args.next().ok_or_else(bad)?;
    let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
    let (bytes, origin_sectors) = number().zip(number()).ok_or_else(bad)?;
    let blocks = bytes as usize / store::blocks::BLOCK_SIZE;
    let (store_type, chunk_sectors, image) = fuzz::image(&input).ok_or_else(bad)?;
    let mut device = std::fs::OpenOptions::new().write(true).open(device)?;
    device.write_all(&image)?;
    device.sync_all()?;
    let verdict = match fuzz::taken(&input, blocks, origin_sectors).ok_or_else(bad)? {
        Ok(()) => "taken".to_owned(),
        Err(why) => format!("refused {why}"),
    };
    println!("{chunk_sectors} {} {verdict}", store_type.name());
    Ok(())
}
