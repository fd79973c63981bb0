// SPDX-License-Identifier: GPL-2.0

//! What is lost stays so, whatever says it.

use super::disk::Disk;
use super::range_check::*;
use super::range_model::*;
use crate::store::blocks::Blocks;
use crate::store::{load, Chunk, ExceptionStore, Found, Identity, Open, StoreType, Value};

for_both!(
    lost_content_stays_lost,
    of_two_last_words_the_one_that_says_more_counts,
    a_load_that_loses_all_says_so_in_one_step,
);

fn lost_content_stays_lost(of: StoreType) {
    let mut rig = Rig::new(of, 512, 8, 4);
    let one = rig.create(None, b"").unwrap();
    rig.write_origin(0);
    rig.lose_all();
    let two = rig.create(None, b"").unwrap();
    rig.commit();
    assert_eq!(
        rig.store.find(Chunk(1), one),
        Ok(Found::Private(Value::Lost))
    );
    assert_eq!(rig.store.find(Chunk(1), two), Ok(Found::NotRemapped));
    assert_eq!(rig.write_origin(1), 1);
    rig.commit();
    rig.check();
    let disk = rig.blocks.disk();
    let end = disk.log_len();
    rig.reload(disk.cut(end, |_, _| false), end);
    rig.check();
}

fn of_two_last_words_the_one_that_says_more_counts(of: StoreType) {
    // Either place of a checkpoint is the first one's.
    for more in 0..2 {
        let mut rig = Rig::new(of, 512, 8, 4);
        let id = rig.create(None, b"").unwrap();
        rig.commit();
        for _ in 0..more {
            rig.begin_checkpoint(None);
            rig.end_checkpoint(true);
        }
        for lost in [false, true] {
            let word = rig.store.give_up(lost).unwrap();
            rig.blocks.write_raw(word.nr, &word.block).unwrap();
            rig.store.checkpointed(word, Ok(()));
        }
        let mut store = open(&rig.blocks.disk().copy()).unwrap();
        assert_eq!(store.find(Chunk(1), id), Ok(Found::Private(Value::Lost)));
    }
}

fn a_load_that_loses_all_says_so_in_one_step(of: StoreType) {
    let mut rig = Rig::new(of, 512, 8, 4);
    let id = rig.create(None, b"").unwrap();
    rig.write_origin(0);
    rig.commit();
    let identity = Identity { digests: [7; 64] };
    rig.begin_checkpoint(Some(&identity));
    rig.end_checkpoint(true);
    let disk = rig.blocks.disk().copy();
    disk.forget_log();
    let peek = |disk: &Disk| Open::peek(Shared::new(disk.clone()), false).unwrap();
    let mut opened = peek(&disk);
    opened.lose_all();
    let mut store = load(opened).unwrap();
    let is_lost = |store: &mut dyn ExceptionStore| {
        store.find(Chunk(1), id) == Ok(Found::Private(Value::Lost))
    };
    assert!(is_lost(&mut *store));
    assert!(matches!(
        store.find(Chunk(0), id),
        Ok(Found::Private(Value::Chunk(_)))
    ));
    let mut seen = [0; 2];
    for at in 0..=disk.log_len() {
        for keep in [false, true] {
            let left = disk.cut(at, |_, _| keep);
            let told = peek(&left).identity().is_some();
            seen[usize::from(told)] += 1;
            // What tells of it is gone only when the loss is there.
            assert!(told != is_lost(&mut *open(&left).unwrap()), "{at} {keep}");
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0);
    let mut opened = Open::peek(Shared::new(rig.blocks.disk().copy()), true).unwrap();
    opened.lose_all();
    assert!(is_lost(&mut *load(opened).unwrap()));
}
