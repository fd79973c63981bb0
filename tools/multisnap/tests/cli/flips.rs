// SPDX-License-Identifier: GPL-2.0

//! Random damage to random stores: whatever it is, each command ends, without a panic.

use super::{
    fixture::{multisnap, World, TYPES},
    history::random,
};
use fastrand::Rng;

/// Runs everything on the store. Whether check calls it sound.
fn try_all(world: &World, rng: &mut Rng) -> bool {
    let store = world.store().display().to_string();
    let origin = world.origin().display().to_string();
    let path = |name: &str| {
        let path = world.folder.path(name);
        let _ = std::fs::remove_file(&path);
        path.display().to_string()
    };
    let (dump, out, new) = (path("dump"), path("out"), path("new"));
    let check = multisnap(&["check", &store]);
    assert!((0..=3).contains(&check.code));
    let sound = matches!(check.code, 0 | 3);
    if multisnap(&["dump", &store, "--output", &dump]).code == 0 {
        let run = multisnap(&["restore", &dump, &out, "--data", &store]);
        assert!(!sound || run.code == 0, "{}", run.err);
    }
    let repair = multisnap(&["repair", &store, &new]);
    assert!((0..=2).contains(&repair.code), "{}", repair.err);
    assert!(!sound || repair.code == 0, "{}", repair.text());
    if repair.code != 2 && world.folder.path("new").exists() {
        let check = world.check("new");
        assert!(matches!(check.code, 0 | 3), "{}", check.text());
    }
    let id = format!("{}", rng.u32(1..5));
    multisnap(&["cat", &store, &id, "--origin", &origin, "--lost-as-zero"]);
    multisnap(&["map", &store, &id]);
    sound
}

/// Blocks of the store that hold something of its metadata.
fn used(world: &World) -> Vec<u64> {
    let data = std::fs::read(world.store()).unwrap();
    let is_metadata = |block: &[u8]| block[8..24] == [7; 16] && block[6..8] == [0x53, 0x4d];
    let blocks = data.chunks_exact(4096).enumerate();
    blocks
        .filter(|(_, block)| is_metadata(block))
        .map(|(nr, _)| nr as u64)
        .collect()
}

/// Damage that a disk may do: the checksums tell.
#[test]
fn flipped_bytes_do_no_harm() {
    let mut rng = Rng::with_seed(0x666c);
    let mut noticed = 0;
    for _ in 0..12 {
        for of in TYPES {
            let mut world = random(of, &mut rng, 60);
            if rng.bool() {
                world.stop();
            } else {
                world.crash();
            }
            let sound = std::fs::read(world.store()).unwrap();
            for _ in 0..3 {
                let used = used(&world);
                for _ in 0..rng.u32(1..4) {
                    let nr = *rng.choice(&used).unwrap();
                    let (at, by) = (rng.usize(0..4096), rng.u8(1..));
                    world.edit(nr, |block| block[at] ^= by);
                }
                noticed += usize::from(!try_all(&world, &mut rng));
                std::fs::write(world.store(), &sound).unwrap();
            }
        }
    }
    assert!(noticed > 20, "{noticed}");
}

/// Damage that somebody may do: the checksums are right.
#[test]
fn forged_blocks_do_no_harm() {
    let mut rng = Rng::with_seed(0x666f);
    let mut noticed = 0;
    for _ in 0..20 {
        for of in TYPES {
            let mut world = random(of, &mut rng, 60);
            if rng.bool() {
                world.stop();
            } else {
                world.crash();
            }
            let sound = std::fs::read(world.store()).unwrap();
            for _ in 0..5 {
                let used = used(&world);
                for _ in 0..rng.u32(1..5) {
                    forge(&world, &used, &mut rng);
                }
                noticed += usize::from(!try_all_forged(&world));
                std::fs::write(world.store(), &sound).unwrap();
            }
        }
    }
    assert!(noticed > 30, "{noticed}");
}

/// Changes a number somewhere; most often where one is.
fn forge(world: &World, used: &[u64], rng: &mut Rng) {
    let nr = match rng.u32(0..8) {
        0 => 0,
        1 | 2 => world.newest(),
        _ => *rng.choice(used).unwrap(),
    };
    let end = if rng.u32(0..4) == 0 { 4088 } else { 300 };
    let at = rng.usize(8..end) & !7;
    let n: u64 = match rng.u32(0..6) {
        0 => rng.u64(0..8),
        1 => u64::MAX - rng.u64(0..3),
        2 | 3 => 1 << rng.u32(0..64),
        4 => rng.u64(0..3000),
        _ => rng.u64(..),
    };
    let half = rng.bool();
    world.forge(nr, |block| {
        let bytes = n.to_le_bytes();
        let n = if half { 4 } else { 8 };
        block[at..at + n].copy_from_slice(&bytes[..n]);
    });
}

/// As [`try_all`], but a forged store may be sound and say anything.
fn try_all_forged(world: &World) -> bool {
    let store = world.store().display().to_string();
    let origin = world.origin().display().to_string();
    let path = |name: &str| {
        let path = world.folder.path(name);
        let _ = std::fs::remove_file(&path);
        path.display().to_string()
    };
    let check = multisnap(&["check", &store]);
    let (dump, out, new) = (path("dump"), path("out"), path("new"));
    let dumped = multisnap(&["dump", &store, "--output", &dump]);
    if dumped.code == 0 {
        multisnap(&["restore", &dump, &out, "--size", "16M", "--data", &store]);
    }
    multisnap(&["repair", &store, &new, "--size", "16M"]);
    multisnap(&["cat", &store, "1", "--origin", &origin, "--lost-as-zero"]);
    multisnap(&["map", &store, "1"]);
    matches!(check.code, 0 | 3)
}
