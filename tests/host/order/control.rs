// SPDX-License-Identifier: GPL-2.0

//! Commands.

use super::bench::{bench, bench_on, snap, At};
use crate::engine::order::{Control, Copied, Mode};
use crate::store::{ExceptionStore, SnapId, NAME_LEN};
use kernel::prelude::*;

fn create() -> Control {
    Control::Create {
        parent: None,
        id: None,
        created: 1,
        name: [0; NAME_LEN],
    }
}

#[test]
fn a_create_is_done_when_it_is_durable() {
    let mut b = bench(0);
    b.control(create());
    assert_eq!(b.desk.cuts, [SnapId::top(1)]);
    assert!(b.desk.control.is_empty());
    assert!(b.machine.control(create()).is_err(), "one at a time");
    b.end_log(Ok(()));
    assert_eq!(b.desk.control, [Ok(Some(SnapId::top(1)))]);
}

#[test]
fn a_create_that_is_not_durable_fails() {
    let mut b = bench(0);
    b.control(create());
    b.end_log(Err(EIO));
    assert_eq!(b.desk.control, [Err(EIO)]);
    assert_eq!(b.desk.modes, [Mode::Fail]);
    b.control(create());
    assert_eq!(b.desk.control.len(), 2);
    assert!(b.desk.control[1].is_err());
}

#[test]
fn a_create_waits_for_room() {
    let mut b = bench(1);
    b.faults.add("has_room", EAGAIN);
    b.control(create());
    assert!(b.desk.cuts.len() == 1 && b.desk.checkpoint.is_some());
    b.end_checkpoint(Ok(()));
    b.end_log(Ok(()));
    assert_eq!(b.desk.control, [Ok(Some(SnapId::top(2)))]);
}

#[test]
fn a_create_that_the_store_refuses_changes_nothing() {
    let mut b = bench(1);
    b.faults.add("create", ENOSPC);
    b.control(create());
    assert_eq!(b.desk.control, [Err(ENOSPC)]);
    assert_eq!(b.desk.cuts.len(), 1);
    assert!(b.desk.modes.is_empty());
}

#[test]
fn a_name_is_given_durably() {
    let mut b = bench(1);
    let mut name = [0; NAME_LEN];
    name[..3].copy_from_slice(b"abc");
    let id = SnapId::top(1);
    b.control(Control::Name { id, name });
    assert!(b.desk.control.is_empty());
    b.end_log(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
    assert_eq!(b.machine.store().snapshot(id).unwrap().unwrap().name, name);
    let id = SnapId::top(7);
    b.control(Control::Name { id, name });
    assert_eq!(b.desk.control[1], Err(ENOENT));
}

#[test]
fn a_checkpoint_is_written_behind_what_waits() {
    let mut b = bench(1);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    b.control(Control::Checkpoint);
    assert!(b.desk.log.is_some() && b.desk.checkpoint.is_some());
    assert!(b.desk.control.is_empty());
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
    b.end_log(Ok(()));
    assert!(b.desk.checkpoint.is_none());
}

#[test]
fn a_close_waits_until_nothing_is_under_way() {
    let mut b = bench(1);
    let read = b.read(snap(1), 2);
    let n = b.write(1);
    b.close();
    assert!(b.desk.checkpoint.is_none());
    b.end_copy(Copied::Good);
    b.end_log(Ok(()));
    assert!(b.desk.checkpoint.is_none(), "an older read is out");
    b.end_bio(read);
    assert_eq!(b.at(n), At::Origin);
    assert!(b.desk.checkpoint.is_some());
    b.end_checkpoint(Ok(()));
    assert_eq!(b.desk.control, [Ok(None)]);
}

#[test]
fn a_close_goes_on_when_only_a_wait_for_older_reads_is_over() {
    let mut b = bench(1);
    let read = b.read(snap(1), 2);
    b.write_whole(snap(1), 1);
    b.end_overwrite(Ok(()));
    b.close();
    b.end_log(Ok(()));
    assert!(b.desk.checkpoint.is_none());
    b.end_bio(read);
    assert!(b.desk.checkpoint.is_some());
}

#[test]
fn a_close_in_mode_fail_writes_nothing_to_a_device_that_is_gone() {
    let mut b = bench(1);
    b.write(1);
    b.end_copy(Copied::Good);
    b.end_log(Err(EIO));
    b.end_probe(Err(EIO));
    b.close();
    b.end_probe(Err(EIO));
    assert!(b.desk.checkpoint.is_none());
    assert_eq!(b.desk.control, [Err(EIO)]);
}

#[test]
fn a_failed_checkpoint_is_told_and_ends_it() {
    let mut b = bench(1);
    b.control(Control::Checkpoint);
    b.end_checkpoint(Err(EIO));
    assert_eq!(b.desk.control, [Err(EIO)]);
    assert_eq!(b.desk.modes, [Mode::Fail]);
}

#[test]
fn a_deletion_that_a_load_had_no_room_to_complete_is_completed() {
    let mut b = bench_on(true, 100, |store| {
        let id = store.create(None, 1, b"").unwrap();
        store.delete(id).unwrap();
    });
    assert!(b.machine.store().is_live(SnapId::top(1)));
    b.faults.add("forget", ENOSPC);
    b.finish();
    assert_eq!(b.desk.gone, [SnapId::top(1)]);
    assert_eq!(b.machine.store().live_ids(), 0);
    assert!(b.desk.control.is_empty() && b.desk.modes.is_empty());
}
