// SPDX-License-Identifier: GPL-2.0

//! A folder with an origin and a store, what the snapshots must hold, and runs of the command.

use multisnap_store::image::{
    bytes, bytes_mut, rig::Rig, Device, Image, Page, Params, Part, Scope, SnapshotId, Type,
};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

/// Both types of stores.
pub const TYPES: [Type; 2] = [Type::Btree, Type::Bitmask];

/// Longest time that a run may take: none of these stores is large.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder that goes when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("multisnap-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file as a device.
struct FileDevice(File);

impl Device for FileDevice {
    fn blocks(&self) -> u64 {
        self.0.metadata().unwrap().len() / 4096
    }

    fn read(&self, nr: u64, pages: &mut [Page]) -> io::Result<()> {
        self.0.read_exact_at(bytes_mut(pages), nr * 4096)
    }

    fn write(&self, nr: u64, pages: &[Page]) -> io::Result<()> {
        self.0.write_all_at(bytes(pages), nr * 4096)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

pub fn device(path: &Path) -> Arc<dyn Device> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    Arc::new(FileDevice(file.unwrap()))
}

/// How a run of the command ended.
pub struct Run {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Run {
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).expect(&self.err)
    }

    /// It ended so, without a panic, and an error is one line.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        let text = String::from_utf8_lossy(&self.out);
        assert_eq!(self.code, code, "{text}\n{}", self.err);
        self
    }
}

/// Runs the command.
pub fn multisnap<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multisnap"));
    run(command.args(args))
}

/// Runs the command in so many bytes of address space.
pub fn multisnap_in<S: AsRef<std::ffi::OsStr>>(bytes: u64, args: &[S]) -> Run {
    let limit = format!("ulimit -v {} && exec \"$0\" \"$@\"", bytes >> 10);
    let mut command = Command::new("sh");
    command.args(["-c", &limit, env!("CARGO_BIN_EXE_multisnap")]);
    run(command.args(args))
}

/// Runs the command in a terminal of its own. How it ended, and all that was to be seen.
pub fn multisnap_seen<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> (i32, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let screen = openpt(flags).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let tty = || {
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name.to_str().unwrap());
        tty.unwrap()
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_multisnap"))
        .args(args)
        .env("TERM", "xterm")
        .stdin(tty())
        .stdout(tty())
        .stderr(tty())
        .spawn()
        .unwrap();
    let mut text = Vec::new();
    // An error when nobody has it open any more.
    let _ = File::from(screen).read_to_end(&mut text);
    let code = child.wait().unwrap().code().expect("killed by a signal");
    (code, String::from_utf8(text).unwrap())
}

fn run(command: &mut Command) -> Run {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = std::thread::spawn(move || {
        let mut data = Vec::new();
        out.read_to_end(&mut data).unwrap();
        data
    });
    let read_err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not come to an end");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let err = read_err.join().unwrap();
    assert!(!err.contains("panicked"), "{err}");
    Run {
        code: status.code().expect("killed by a signal"),
        out: read.join().unwrap(),
        err,
    }
}

/// The content of a chunk: another one in each block.
pub fn content(token: u64, blocks: u64) -> Vec<Page> {
    (0..blocks)
        .map(|block| {
            let mut page = Page::ZERO;
            if token != 0 {
                for (i, word) in page.0.chunks_exact_mut(8).enumerate() {
                    let n = (token << 24) | (block << 12) | i as u64;
                    word.copy_from_slice(&n.to_le_bytes());
                }
            }
            page
        })
        .collect()
}

/// What a snapshot holds in its chunks: tokens, 0 for zeroes, or nothing.
pub type Contents = Vec<Option<u64>>;

/// A store at work, and what its snapshots must hold.
pub struct World {
    pub of: Type,
    pub folder: Folder,
    pub chunk_blocks: u64,
    rig: Option<Rig>,
    origin: Vec<u64>,
    pub snapshots: BTreeMap<SnapshotId, Contents>,
    pub names: BTreeMap<SnapshotId, String>,
    next: u64,
}

impl World {
    /// An origin of `chunks` chunks, and a store of `blocks` blocks.
    pub fn new(of: Type, blocks: u64, chunk_blocks: u64, chunks: u64) -> Self {
        let folder = Folder::new();
        for (name, len) in [("origin", chunks * chunk_blocks), ("store", blocks)] {
            let file = File::create(folder.path(name)).unwrap();
            file.set_len(len * 4096).unwrap();
        }
        let params = Params {
            uuid: [7; 16],
            store_type: of,
            chunk_sectors: (chunk_blocks * 8) as u32,
            origin_sectors: chunks * chunk_blocks * 8,
        };
        let (store, origin) = (
            device(&folder.path("store")),
            device(&folder.path("origin")),
        );
        let rig = Rig::format(&store, &origin, &params).unwrap();
        let mut world = Self {
            of,
            folder,
            chunk_blocks,
            rig: Some(rig),
            origin: vec![0; chunks as usize],
            snapshots: BTreeMap::new(),
            names: BTreeMap::new(),
            next: 1,
        };
        for chunk in 0..chunks {
            world.write(chunk);
        }
        world
    }

    pub fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().unwrap()
    }

    pub fn chunks(&self) -> u64 {
        self.origin.len() as u64
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path("store")
    }

    pub fn origin(&self) -> PathBuf {
        self.folder.path("origin")
    }

    fn token(&mut self) -> (u64, Vec<Page>) {
        self.next += 1;
        (self.next, content(self.next, self.chunk_blocks))
    }

    /// Writes a chunk of the origin.
    pub fn write(&mut self, chunk: u64) {
        let (token, pages) = self.token();
        self.rig().write_origin(chunk, &pages, false).unwrap();
        self.origin[chunk as usize] = token;
    }

    /// As [`write`](Self::write), when the old content cannot be preserved.
    pub fn write_and_lose(&mut self, chunk: u64) {
        let shared = self.sharing(chunk);
        let (token, pages) = self.token();
        self.rig().write_origin(chunk, &pages, true).unwrap();
        self.origin[chunk as usize] = token;
        for id in shared {
            self.snapshots.get_mut(&id).unwrap()[chunk as usize] = None;
        }
    }

    /// The snapshots that share a chunk with the origin.
    fn sharing(&self, chunk: u64) -> Vec<SnapshotId> {
        // Tokens are never used twice, so content tells.
        let now = Some(self.origin[chunk as usize]);
        let holds = self.snapshots.iter();
        holds
            .filter(|(_, contents)| contents.get(chunk as usize) == Some(&now))
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn create(&mut self, parent: Option<SnapshotId>, name: &str) -> SnapshotId {
        self.try_create(parent, name).expect(name)
    }

    pub fn try_create(&mut self, parent: Option<SnapshotId>, name: &str) -> Option<SnapshotId> {
        let time = 1_700_000_000 + self.next;
        let id = self.rig().create(parent, time, name).ok()?;
        let contents = match parent {
            Some(parent) => self.snapshots[&parent].clone(),
            None => self.origin.iter().map(|token| Some(*token)).collect(),
        };
        self.snapshots.insert(id, contents);
        self.names.insert(id, name.into());
        Some(id)
    }

    pub fn write_snapshot(&mut self, id: SnapshotId, chunk: u64) {
        let (token, pages) = self.token();
        self.rig().write_snapshot(id, chunk, &pages).unwrap();
        self.snapshots.get_mut(&id).unwrap()[chunk as usize] = Some(token);
    }

    pub fn zero(&mut self, id: SnapshotId, chunk: u64) {
        self.rig().zero_snapshot(id, chunk).unwrap();
        self.snapshots.get_mut(&id).unwrap()[chunk as usize] = Some(0);
    }

    pub fn delete(&mut self, id: SnapshotId) {
        self.rig().delete(id).unwrap();
        self.snapshots.remove(&id);
        self.names.remove(&id);
    }

    /// What snapshots share with the origin is lost.
    pub fn lose_all(&mut self) {
        for chunk in 0..self.chunks() {
            for id in self.sharing(chunk) {
                self.snapshots.get_mut(&id).unwrap()[chunk as usize] = None;
            }
        }
        self.rig().lose_all().unwrap();
    }

    /// Stops in good order.
    pub fn stop(&mut self) {
        self.rig.take().unwrap().stop().unwrap();
    }

    /// The machine stops; what was committed is on the disk.
    pub fn crash(&mut self) {
        self.rig().commit().unwrap();
        self.rig = None;
    }

    /// Loads the store again.
    pub fn load(&mut self) {
        let (store, origin) = (device(&self.store()), device(&self.origin()));
        self.rig = Some(Rig::load(&store, &origin).unwrap());
    }

    /// Whether the origin still has this content in a chunk.
    pub fn shares(&self, chunk: u64, token: u64) -> bool {
        self.origin[chunk as usize] == token
    }

    /// The origin grows.
    pub fn grow(&mut self, chunks: u64) {
        let file = OpenOptions::new().write(true).open(self.origin()).unwrap();
        file.set_len(chunks * self.chunk_blocks * 4096).unwrap();
        let sectors = chunks * self.chunk_blocks * 8;
        self.rig().grow_origin(sectors).unwrap();
        self.origin.resize(chunks as usize, 0);
    }

    /// What `cat` must write for a snapshot, with zeroes for what is lost.
    pub fn bytes(&self, id: SnapshotId) -> Vec<u8> {
        let contents = self.snapshots[&id].iter();
        let pages = contents.flat_map(|token| content(token.unwrap_or(0), self.chunk_blocks));
        bytes(&pages.collect::<Vec<_>>()).to_vec()
    }

    /// Runs `multisnap check` on a store in the folder.
    pub fn check(&self, name: &str) -> Run {
        multisnap(&["check".into(), self.folder.path(name)])
    }

    /// Each snapshot of the store `name` holds what it must.
    #[track_caller]
    pub fn cats(&self, name: &str) {
        for (id, contents) in &self.snapshots {
            let run = self.cat(name, *id, true).ends(0);
            assert!(run.out == self.bytes(*id), "{id} in {name}: {}", run.err);
            let lost = contents.iter().filter(|token| token.is_none()).count();
            let told = run.err.contains("lost");
            assert_eq!(told, lost != 0, "{id}: {}", run.err);
        }
    }

    pub fn cat(&self, name: &str, id: SnapshotId, lost_as_zero: bool) -> Run {
        let store = self.folder.path(name).display().to_string();
        let (origin, id) = (self.origin().display().to_string(), id.to_string());
        let mut args = vec!["cat", &store, &id, "--origin", &origin];
        if lost_as_zero {
            args.push("--lost-as-zero");
        }
        multisnap(&args)
    }

    /// Dumps the store, and restores it as `name`; what is told of it.
    #[track_caller]
    pub fn restore(&self, name: &str) -> serde_json::Value {
        let dump = self.folder.path(&format!("{name}.dump"));
        let dump_to = dump.display().to_string();
        let store = self.store().display().to_string();
        multisnap(&["dump", &store, "--output", &dump_to]).ends(0);
        let out = self.folder.path(name).display().to_string();
        multisnap(&["restore", &dump_to, &out, "--data", &store, "--json"])
            .ends(0)
            .json()
    }

    /// The blocks that hold nodes of a tree in use, by the number of the tree and the level.
    pub fn nodes(&self, tree: u16, level: u16) -> Vec<u64> {
        let device = device(&self.store());
        let mut image = Image::open(&device).unwrap();
        let mut nodes = Vec::new();
        image.survey(Scope::All, &mut |part| {
            if let Part::Node(block) = part {
                nodes.push(block);
            }
            true
        });
        nodes.retain(|nr| {
            let mut page = [Page::ZERO];
            device.read(*nr, &mut page).unwrap();
            page[0].0[48..52] == [tree.to_le_bytes(), level.to_le_bytes()].concat()[..]
        });
        nodes
    }

    /// Changes a block of the store.
    pub fn edit(&self, nr: u64, f: impl FnOnce(&mut [u8; 4096])) {
        let device = device(&self.store());
        let mut page = [Page::ZERO];
        device.read(nr, &mut page).unwrap();
        f(&mut page[0].0);
        device.write(nr, &page).unwrap();
    }

    /// Flips a bit of a block of the store.
    pub fn flip(&self, nr: u64, byte: usize) {
        self.edit(nr, |block| block[byte] ^= 0x10);
    }

    /// Changes a block of the store and makes its checksum right.
    pub fn forge(&self, nr: u64, f: impl FnOnce(&mut [u8; 4096])) {
        self.edit(nr, |block| {
            f(block);
            let sum = !crc32c::crc32c_append(0, &block[4..]);
            block[..4].copy_from_slice(&sum.to_le_bytes());
        });
    }

    /// The block of the newest checkpoint.
    pub fn newest(&self) -> u64 {
        let device = device(&self.store());
        let epoch = |nr| {
            let mut page = [Page::ZERO];
            device.read(nr, &mut page).unwrap();
            u64::from_le_bytes(page[0].0[32..40].try_into().unwrap())
        };
        if epoch(8) > epoch(16) {
            8
        } else {
            16
        }
    }
}
