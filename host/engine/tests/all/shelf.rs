//! A store of objects for tests: each in a file of its own, sealed as the node's are, or in one of the ways in which they must not be.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::Write,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rwasm_engine::objects::{Draft, Info, Object, Objects, Region, Sealed, Waits};
use rwasm_types::{Code, Error, NodeId, ObjectId, Result, TaskId};
use rwasm_values::Type;

/// How the objects of a shelf are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// As they should be.
    Sealed,
    /// In files that could shrink.
    Unsealed,
    /// In files that have shrunk.
    Short,
    /// In no file.
    None,
}

type Hook = Box<dyn Fn() + Send + Sync>;

/// The objects of a test.
pub(crate) struct Shelf {
    files: Files,
    items: Mutex<BTreeMap<ObjectId, Arc<Item>>>,
    held: Arc<AtomicUsize>,
    hook: Mutex<Option<Hook>>,
}

pub(crate) struct Item {
    pub(crate) id: ObjectId,
    pub(crate) value_type: Type,
    pub(crate) bytes: Vec<u8>,
    file: Option<File>,
}

/// A page before each object and the rest of its last page are somebody else's.
const BEFORE: usize = 64 << 10;
const FOREIGN: u8 = 0xee;

impl Shelf {
    pub(crate) fn new(files: Files) -> Arc<Self> {
        Arc::new(Self { files, items: Mutex::default(), held: Arc::default(), hook: Mutex::default() })
    }

    /// Does something whenever a guest asks for the bytes of an object.
    pub(crate) fn on_bytes(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.hook.lock() = Some(Box::new(hook));
    }

    /// Puts an object there; gives its name in WAVE.
    pub(crate) fn add(&self, value_type: &str, bytes: &[u8]) -> String {
        let id = self.keep(value_type.parse().unwrap(), bytes.to_vec()).id;
        format!("@ref({id})")
    }

    /// An object, by its name in WAVE.
    pub(crate) fn item(&self, name: &str) -> Arc<Item> {
        let id = name.trim_start_matches("@ref(").trim_end_matches(')').parse().unwrap();
        Arc::clone(&self.items.lock()[&id])
    }

    /// How many handles of objects are alive.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    fn keep(&self, value_type: Type, bytes: Vec<u8>) -> Arc<Item> {
        let mut items = self.items.lock();
        let index = u32::try_from(items.len()).unwrap();
        let id = TaskId { owner: NodeId::FIRST, session: 1, sequence: 0 }.object(index);
        let item = Arc::new(Item { id, value_type, file: file(self.files, &bytes), bytes });
        items.insert(id, Arc::clone(&item));
        item
    }

    fn hold(self: &Arc<Self>, item: Arc<Item>) -> Arc<dyn Object> {
        self.held.fetch_add(1, Relaxed);
        Arc::new(Hold { shelf: Arc::clone(self), item })
    }
}

impl Item {
    /// The bytes as the file has them now.
    pub(crate) fn in_file(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; self.bytes.len()];
        self.file.as_ref().unwrap().read_exact_at(&mut bytes, BEFORE as u64).unwrap();
        bytes
    }
}

fn file(files: Files, bytes: &[u8]) -> Option<File> {
    let mut file = File::from(memfd_create("object", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
    let after = bytes.len().next_multiple_of(4096) - bytes.len();
    for part in [&[FOREIGN; BEFORE], bytes, &vec![FOREIGN; after]] {
        file.write_all(part).unwrap();
    }
    match files {
        Files::None => return None,
        Files::Unsealed => {}
        Files::Short => {
            file.set_len(BEFORE as u64).unwrap();
            fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        }
        Files::Sealed => {
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL).unwrap();
            assert!(file.set_len(0).is_err(), "a sealed file does not shrink");
        }
    }
    Some(file)
}

/// The trait's methods take the shelf, and what they give refers to it.
pub(crate) struct Reach(pub(crate) Arc<Shelf>);

impl Objects for Reach {
    fn open(&self, id: ObjectId) -> Result<Arc<dyn Object>> {
        let item = self.0.items.lock().get(&id).cloned();
        item.map(|item| self.0.hold(item)).ok_or_else(|| Error::new(Code::NOT_FOUND, format!("no object {id}")))
    }

    fn create<'a>(&'a self, ty: &'a Type, size: u64) -> Waits<'a, Box<dyn Draft>> {
        let draft = Making { shelf: Arc::clone(&self.0), ty: ty.clone(), bytes: Vec::with_capacity(size as usize) };
        Box::pin(async move {
            // As if it had to wait for room.
            tokio::task::yield_now().await;
            Ok(Box::new(draft) as Box<dyn Draft>)
        })
    }
}

struct Hold {
    shelf: Arc<Shelf>,
    item: Arc<Item>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shelf.held.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.item.id, f)
    }
}

impl Object for Hold {
    fn refs(&self) -> Waits<'_, Vec<Arc<dyn Object>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn id(&self) -> ObjectId {
        self.item.id
    }

    fn info(&self) -> Waits<'_, Info> {
        let info = Info { size: self.item.bytes.len() as u64, value_type: self.item.value_type.clone() };
        Box::pin(async move { Ok(info) })
    }

    fn bytes(&self) -> Waits<'_, Arc<dyn Sealed>> {
        Box::pin(async move {
            // As if they came from another node.
            tokio::task::yield_now().await;
            if let Some(hook) = &*self.shelf.hook.lock() {
                hook();
            }
            Ok(Arc::new(Pinned(Arc::clone(&self.item))) as Arc<dyn Sealed>)
        })
    }
}

struct Pinned(Arc<Item>);

impl Sealed for Pinned {
    fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    fn region(&self) -> Option<Region<'_>> {
        let file = self.0.file.as_ref()?;
        Some(Region { file: file.as_fd(), offset: BEFORE as u64, length: self.0.bytes.len() as u64 })
    }
}

struct Making {
    shelf: Arc<Shelf>,
    ty: Type,
    bytes: Vec<u8>,
}

impl Draft for Making {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn bytes(&mut self) -> &[u8] {
        &self.bytes
    }

    fn seal(self: Box<Self>) -> Waits<'static, Arc<dyn Object>> {
        Box::pin(async move {
            let item = self.shelf.keep(self.ty, self.bytes);
            Ok(self.shelf.hold(item))
        })
    }
}
