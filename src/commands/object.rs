//! `put`, `get`, `rm`, `memory` and `list objects`: values that are stored with the cluster.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use bytes::Bytes;
use rwasm_client::{Client, Hold, ObjectReader};
use rwasm_types::{
    Code, Error, ObjectId, Result,
    api::{Listing, MemoryRecord, ObjectRecord, ObjectState, Order, Query, Tally},
    format_bytes, format_duration,
};
use rwasm_values::{Limits, Ref, Type, codec, json, wave};
use rwasm_wire::CHUNK_BYTES;

use super::{list, submit::ResultFile};
use crate::{
    args::{GetArgs, MemoryArgs, PutArgs, RmArgs},
    target, ui,
};

/// The path that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// The most bytes of standard input, or of a pipe, that are stored: they are read before they are sent.
const STREAM_BYTES_MAX: u64 = 1 << 30;

/// The largest file that is read as JSON.
const JSON_BYTES_MAX: u64 = 128 << 20;

/// `rwasm put`.
pub(crate) async fn put(args: &PutArgs, json: bool) -> Result<ExitCode> {
    // Looked at first, so that a wrong path is said at once.
    let upload = Upload::of(&args.file, args.ty.clone())?;
    let client = target::connect(&args.target).await?;
    let id = upload.store(&client, Hold::Tenant(args.keep)).await?;
    if json {
        ui::json(&client.query::<ObjectRecord>(&Query::Object { object: id }).await?)?;
    } else {
        ui::line(&id.to_string())?;
        let keep = format_duration(args.keep);
        ui::note(&format!("it is kept for {keep}, or until `rwasm rm {id}`; use it as @ref({id})"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A file whose bytes are to be stored.
pub(crate) struct Source {
    bytes: Bytes,
    /// Whether it is a file that is opened when it is needed, for a submit may name more files than may be open.
    unread: Option<PathBuf>,
    name: String,
    size: u64,
}

impl Source {
    /// Looks at a file; reads all of standard input, and of whatever else has no size before it is read.
    fn of(path: &Path) -> Result<Self> {
        if path == Path::new(STDIN) {
            return Self::read_all("standard input".to_owned(), io::stdin().lock());
        }
        let name = path.display().to_string();
        let unreadable = |error: io::Error| unreadable(&name, &error).hint("check the path");
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Error::new(Code::IO, format!("{name} is a directory")).hint("name a file"));
        }
        if !metadata.is_file() {
            return Self::read_all(name, file);
        }
        Ok(Self { bytes: Bytes::new(), unread: Some(path.to_owned()), size: metadata.len(), name })
    }

    fn read_all(name: String, from: impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        from.take(STREAM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&name, &error))?;
        let size = bytes.len() as u64;
        if size > STREAM_BYTES_MAX {
            let message = format!("{name} has more than {}", format_bytes(STREAM_BYTES_MAX));
            return Err(Error::new(Code::LIMIT, message).hint("write it to a file, and store that"));
        }
        Ok(Self { bytes: bytes.into(), unread: None, name, size })
    }

    fn open(self) -> Result<Box<dyn Read + Send>> {
        match self.unread {
            None => Ok(Box::new(io::Cursor::new(self.bytes))),
            Some(path) => Ok(Box::new(File::open(path).map_err(|error| unreadable(&self.name, &error))?)),
        }
    }

    /// All of it, if that is no more than so many bytes.
    fn read(self, bytes_max: u64) -> Result<Vec<u8>> {
        let (name, size, mut bytes) = (self.name.clone(), self.size, Vec::new());
        if size <= bytes_max {
            self.open()?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&name, &error))?;
        }
        if size.max(bytes.len() as u64) > bytes_max {
            return Err(Error::new(Code::VALUE_TOO_LARGE, format!("{name} is too long to be read as JSON")));
        }
        Ok(bytes)
    }

    /// Stores it as a value of a type whose stored form is bare bytes.
    async fn put(self, client: &Client, ty: &Type, hold: Hold) -> Result<ObjectId> {
        let (name, size) = (self.name.clone(), self.size);
        let (mut from, mut left) = (self.open()?, size);
        let next = async || {
            let mut part = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
            from.read_exact(&mut part).map_err(|error| unreadable(&name, &error))?;
            left -= part.len() as u64;
            Ok((!part.is_empty()).then(|| Bytes::from(part)))
        };
        client.put_parts(ty, size, &[], hold, next).await
    }
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::new(Code::IO, format!("cannot read {name}: {error}"))
}

/// What is to be stored of one file.
pub(crate) enum Upload {
    /// Its bytes are the value.
    Raw(Source, Type),
    /// They are the JSON of the value, which this is the stored form of.
    Value(Type, Bytes, Vec<ObjectId>),
}

impl Upload {
    /// Looks into a file that is to be a value of a type: its bytes are the value where that is bytes, a string or a list of numbers; else it
    /// is the value's JSON.
    pub(crate) fn of(path: &Path, ty: Type) -> Result<Self> {
        let source = Source::of(path)?;
        if is_raw(&ty) {
            return Ok(Self::Raw(source, ty));
        }
        let text = source.read(JSON_BYTES_MAX)?;
        let limits = Limits::default();
        let read = json::parse_value(&text, &ty, &limits).map_err(|error| error.context(path.display()))?;
        let value = read.value.ok_or_else(|| Error::internal("a value that was read is not there"))?;
        let stored = codec::encode_stored(&ty, &value, &read.refs, &limits)?;
        let refs = read.refs.iter().filter_map(|entry| if let Ref::Object(id) = entry { Some(*id) } else { None }).collect();
        Ok(Self::Value(ty, stored, refs))
    }

    /// Stores it.
    pub(crate) async fn store(self, client: &Client, hold: Hold) -> Result<ObjectId> {
        match self {
            Self::Raw(source, ty) => source.put(client, &ty, hold).await,
            Self::Value(ty, stored, refs) => client.put(&ty, stored, &refs, hold).await,
        }
    }
}

/// `rwasm get`.
pub(crate) async fn get(args: &GetArgs, json: bool) -> Result<ExitCode> {
    let client = target::connect_into(&args.view).await?;
    let mut reader = client.get(args.object, args.timeout).await?;
    let file = args.output.as_deref().map(ResultFile::open).transpose()?;
    match file {
        Some(mut file) if !json && is_raw(reader.ty()) => {
            while let Some(part) = reader.next().await? {
                file.write(&part)?;
            }
            file.finish()?;
        }
        Some(mut file) => {
            file.write(&text(reader, json).await?)?;
            file.finish()?;
        }
        None => ui::out(&text(reader, json).await?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A value as it is printed.
async fn text(reader: ObjectReader, as_json: bool) -> Result<Vec<u8>> {
    let (ty, returned) = reader.value().await?;
    let mut text = Vec::new();
    if as_json {
        json::write_value(&mut text, Some(&ty), &returned)?;
    } else {
        text = wave::to_string(Some(&ty), &returned)?.into_bytes();
    }
    text.push(b'\n');
    Ok(text)
}

/// `rwasm rm`.
pub(crate) async fn rm(args: &RmArgs, json: bool) -> Result<ExitCode> {
    let client = target::connect_into(&args.view).await?;
    let mut rows = Vec::new();
    for object in &args.objects {
        let record: ObjectRecord = client.order(&Order::ReleaseObject { object: *object }).await?;
        if !json {
            match record.holders {
                0 => ui::line(&format!("removed {object}"))?,
                _ => ui::line(&format!("let go of {object}, which is still held by {}", holders(&record)))?,
            }
        }
        rows.push(record);
    }
    if json {
        ui::json(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `rwasm list objects`.
pub(crate) async fn objects(client: &Client, limit: usize, json: bool) -> Result<ExitCode> {
    let listing: Listing<ObjectRecord> = client.query(&Query::Objects { limit }).await?;
    list::show(&listing, json, &["OBJECT", "STATE", "SIZE", "TYPE", "NODES", "HELD BY", "UNTIL", "ERROR"], |row| {
        let nodes: Vec<String> = row.nodes.iter().map(ToString::to_string).collect();
        vec![
            row.id.to_string(),
            row.state.to_string(),
            if row.state == ObjectState::Ready { format_bytes(row.size_bytes) } else { String::new() },
            ui::printable(&row.ty),
            if nodes.is_empty() { "-".to_owned() } else { nodes.join(",") },
            holders(row),
            row.kept_until_ms.map(ui::time).unwrap_or_default(),
            row.error.as_ref().map(|error| error.code().to_string()).unwrap_or_default(),
        ]
    })
}

fn holders(record: &ObjectRecord) -> String {
    let named = record.held_by.join(", ");
    let more = record.holders.saturating_sub(record.held_by.len() as u64);
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// `rwasm memory`.
pub(crate) async fn memory(args: &MemoryArgs, json: bool) -> Result<ExitCode> {
    let listing: Listing<MemoryRecord> = target::connect_into(&args.view).await?.query(&Query::Memory).await?;
    let tally =
        |tally: Tally| if tally.objects == 0 { "-".to_owned() } else { format!("{} in {}", format_bytes(tally.bytes), tally.objects) };
    let code = list::show(&listing, json, &["NODE", "TENANT", "OF", "SEALED", "PINNED", "CREATING", "SPILLED", "INLINE"], |row| {
        let states = [row.sealed, row.pinned, row.creating, row.spilled, row.inline].map(tally);
        [row.node.to_string(), row.tenant.to_string(), format_bytes(row.capacity_bytes)].into_iter().chain(states).collect()
    })?;
    if !json {
        let by_job = listing.rows.iter().flat_map(|row| row.jobs.iter().map(|job| (row.node, job.job.to_string(), job.held)));
        let no_job = listing.rows.iter().map(|row| (row.node, "no job".to_owned(), row.no_job));
        let held: Vec<_> = by_job.chain(no_job).filter(|(_, _, held)| held.objects > 0).collect();
        if !held.is_empty() {
            ui::line("")?;
            ui::table(
                &["OWNER", "HELD BY", "OBJECTS"],
                held.into_iter().map(|(node, holder, held)| vec![node.to_string(), holder, tally(held)]),
            )?;
        }
    }
    Ok(code)
}

/// Whether the stored form of a type is bare bytes; see docs/values.md, section 3.
fn is_raw(ty: &Type) -> bool {
    matches!(ty, Type::String) || matches!(ty, Type::List(element) if element.scalar().is_some())
}

/// Reads the type of `--type`.
pub(crate) fn value_type(text: &str) -> Result<Type, Error> {
    let ty: Type = text.trim().parse()?;
    if ty.is_storable() {
        return Ok(ty);
    }
    Err(Error::new(Code::OBJECT_TYPE, format!("values of the type `{ty}` cannot be stored")))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd};

    use super::*;

    fn bytes() -> Type {
        value_type("list<u8>").unwrap()
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (pipe, mut writer) = io::pipe().unwrap();
        writer.write_all(b"through a pipe").unwrap();
        drop(writer);
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        let Upload::Raw(source, _) = Upload::of(Path::new(&path), bytes()).unwrap() else { unreachable!("bytes are raw") };
        assert_eq!((source.size, source.read(100).unwrap()), (14, b"through a pipe".to_vec()));
    }

    #[test]
    fn a_file_is_open_only_while_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"x").unwrap();
        let path = file.into_temp_path();
        let upload = Upload::of(&path, bytes()).unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        assert!(open.into_iter().all(|open| open != *path), "a submit may name more files than may be open");
        let Upload::Raw(source, _) = upload else { unreachable!("bytes are raw") };
        assert_eq!((source.size, source.read(1).unwrap()), (1, b"x".to_vec()));
    }

    #[test]
    fn files_of_some_types_are_their_bytes_and_of_others_json() {
        for text in ["list<u8>", "string", "list<f64>", " list<s16> "] {
            assert!(is_raw(&value_type(text).unwrap()), "{text}");
        }
        for text in ["u8", "list<string>", "list<list<u8>>", "record { x: u8 }"] {
            assert!(!is_raw(&value_type(text).unwrap()), "{text}");
        }
        for text in ["", "list<u8", "stream<u8>"] {
            assert!(value_type(text).is_err(), "{text}");
        }
    }
}
