// SPDX-License-Identifier: GPL-2.0

//! Small sound images, for damage to begin with.

use super::device::{Image, Ram};
use super::session::Session;
use crate::store::{FormatParams, Open, StoreType};
use std::sync::{Arc, OnceLock};
use std::vec::Vec as StdVec;

/// Sectors of the origin.
pub(crate) const ORIGIN: u64 = 2048;

/// What an image is made of: its blocks, and the calls that were made on the empty store.
struct Recipe {
    blocks: usize,
    chunk_sectors: u32,
    calls: fn(&mut Script),
}

/// Calls, collected.
struct Script(StdVec<u8>);

impl Script {
    fn call(&mut self, what: u8, a: u8, b: u8) {
        self.0.extend([what, a, b]);
    }

    fn each(&mut self, what: u8, a: u8, b: std::ops::Range<u8>) {
        b.for_each(|b| self.call(what, a, b));
    }

    fn commit(&mut self) {
        self.call(16, 0, 0);
        self.call(24, 0, 0);
    }

    fn checkpoint(&mut self) {
        self.call(20, 0, 0);
        self.call(24, 0, 0);
    }
}

const RECIPES: &[Recipe] = &[
    // As formatted.
    Recipe {
        blocks: 192,
        chunk_sectors: 8,
        calls: |_| {},
    },
    // Snapshots with records, stopped cleanly.
    Recipe {
        blocks: 256,
        chunk_sectors: 8,
        calls: |s| {
            for i in 0..4 {
                s.call(12, 0, i * 16);
                s.each(0, 0, i * 10..i * 10 + 12);
            }
            s.each(6, 5, 20..30);
            s.each(9, 3, 24..34);
            s.call(30, 0, 0);
        },
    },
    // All kinds of records in the log.
    Recipe {
        blocks: 256,
        chunk_sectors: 8,
        calls: |s| {
            for i in 0..3 {
                s.call(12, 0, 16);
                s.each(0, 0, i * 8..i * 8 + 9);
            }
            s.checkpoint();
            s.call(13, 3, 8);
            s.each(6, 4, 0..20);
            s.commit();
            s.call(12, 0, 39);
            s.each(0, 0, 5..40);
            s.commit();
            s.call(14, 3, 0);
            s.each(9, 3, 10..20);
            s.call(15, 2, 0);
            s.call(25, 8, 0);
            s.commit();
            s.call(21, 3, 0);
            s.call(26, 0, 0);
            s.commit();
            s.call(21, 63, 0);
            s.each(6, 4, 30..60);
            s.commit();
        },
    },
    // Trees of two levels, lists of free blocks, a sweep that has begun, scattered chunks.
    Recipe {
        blocks: 700,
        chunk_sectors: 8,
        calls: |s| {
            for i in 0..12 {
                s.call(12, 0, i);
                s.each(6, i * 2 + 2, 0..40);
                s.commit();
            }
            s.checkpoint();
            for i in 0..10 {
                s.each(9, i * 2 + 2, 0..20);
                s.commit();
                s.each(0, 0, i * 20..i * 20 + 20);
                s.call(13, i * 2, 7);
                s.commit();
                s.checkpoint();
            }
            for i in 0..5 {
                s.call(15, i * 4 + 2, 0);
                s.commit();
            }
            s.call(21, 0, 0);
            s.commit();
            s.checkpoint();
            s.each(0, 0, 190..230);
            s.call(15, 6, 0);
            s.commit();
            s.each(0, 0, 100..120);
            s.commit();
        },
    },
    // Larger chunks, a full data area, and extents for metadata.
    Recipe {
        blocks: 400,
        chunk_sectors: 32,
        calls: |s| {
            for i in 0..30 {
                s.call(12, 0, 0);
                s.each(6, 60, 0..4);
                s.each(9, 62, i * 2..i * 2 + 60);
                s.commit();
                if i % 8 == 7 {
                    s.checkpoint();
                }
            }
            s.each(0, 0, 0..60);
            s.commit();
        },
    },
    // A log that has wrapped.
    Recipe {
        blocks: 224,
        chunk_sectors: 8,
        calls: |s| {
            s.call(12, 0, 0);
            for i in 0..20 {
                s.each(6, 3, i..i + 3);
                s.commit();
                if i % 4 == 3 {
                    s.checkpoint();
                }
            }
            s.call(12, 0, 9);
            s.each(0, 0, 0..9);
            s.commit();
        },
    },
];

/// How many images there are: one of each kind of store for each recipe.
pub(crate) const COUNT: usize = 2 * RECIPES.len();

/// Image `n`.
pub(crate) fn image(n: usize) -> Arc<Image> {
    static IMAGES: [OnceLock<Arc<Image>>; COUNT] = [const { OnceLock::new() }; COUNT];
    IMAGES[n % COUNT]
        .get_or_init(|| Arc::new(make(recipe(n), store_type(n))))
        .clone()
}

fn recipe(n: usize) -> &'static Recipe {
    &RECIPES[n % RECIPES.len()]
}

/// The kind of store in image `n`.
pub(crate) fn store_type(n: usize) -> StoreType {
    if n % COUNT < RECIPES.len() {
        StoreType::Btree
    } else {
        StoreType::Bitmask
    }
}

/// Sectors of a chunk in image `n`.
pub(crate) fn chunk_sectors(n: usize) -> u32 {
    recipe(n).chunk_sectors
}

fn make(recipe: &Recipe, store_type: StoreType) -> Image {
    let params = FormatParams {
        uuid: [0x5a; 16],
        store_type,
        chunk_sectors: recipe.chunk_sectors,
        origin_sectors: ORIGIN,
    };
    let empty: Image = (0..recipe.blocks).map(|_| None).collect();
    let device = Ram::new(Arc::new(empty));
    assert!(Open::format(device.clone(), &params).is_ok());
    let mut script = Script(StdVec::new());
    (recipe.calls)(&mut script);
    let session = Session::load(&device, false).ok();
    let session = session.and_then(|session| session.run(&script.0));
    assert!(session.is_some_and(|session| !session.store.is_poisoned()));
    device.image()
}
