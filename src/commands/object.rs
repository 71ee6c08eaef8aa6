//! `put`, `get`, `rm`, `memory` and `list objects`: values that are stored with the cluster.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use bytes::Bytes;
use rwasm_client::{Client, Hold, ObjectReader};
use rwasm_types::{
    Code, Error, ObjectId, Result,
    api::{Listing, MemoryRecord, ObjectRecord, ObjectState, Order, Query, Tally},
    format_bytes, format_duration,
};
use rwasm_values::{Scalar, Type, json, wave};
use rwasm_wire::CHUNK_BYTES;

use super::{list, submit::ResultFile};
use crate::{
    args::{GetArgs, MemoryArgs, PutArgs, RmArgs},
    target, ui,
};

/// The most bytes of standard input that are stored: they are read before they are sent.
const STDIN_BYTES_MAX: u64 = 1 << 30;

/// `rwasm put`.
pub(crate) async fn put(args: &PutArgs, json: bool) -> Result<ExitCode> {
    // Read first, so that a wrong path is said at once.
    let source = Source::open(&args.file)?;
    let client = target::connect(&args.target).await?;
    let (size, ty) = (source.size, args.ty.clone());
    let id = source.put(&client, &ty, Hold::Tenant(args.keep)).await?;
    if json {
        ui::json(&client.query::<ObjectRecord>(&Query::Object { object: id }).await?)?;
    } else {
        ui::line(&id.to_string())?;
        let keep = format_duration(args.keep);
        ui::note(&format!("{} are kept for {keep}, or until `rwasm rm {id}`; use them as @ref({id})", format_bytes(size)));
    }
    Ok(ExitCode::SUCCESS)
}

/// A file whose bytes are to be stored.
pub(crate) struct Source {
    from: Box<dyn Read + Send>,
    name: String,
    pub(crate) size: u64,
}

impl Source {
    /// Opens a file; reads all of standard input, whose size nobody knows before.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Error::new(Code::IO, format!("cannot read {name}: {error}")).hint("check the path");
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            let size = bytes.len() as u64;
            if size > STDIN_BYTES_MAX {
                let message = format!("standard input has more than {}", format_bytes(STDIN_BYTES_MAX));
                return Err(Error::new(Code::LIMIT, message).hint("write it to a file, and store that"));
            }
            return Ok(Self { from: Box::new(io::Cursor::new(bytes)), name, size });
        }
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Error::new(Code::IO, format!("{name} is a directory")).hint("name a file"));
        }
        Ok(Self { from: Box::new(file), size: metadata.len(), name })
    }

    /// Stores it as a value of a type whose stored form is bare bytes.
    pub(crate) async fn put(self, client: &Client, ty: &Type, hold: Hold) -> Result<ObjectId> {
        let Self { mut from, name, size } = self;
        let mut left = size;
        let next = async || {
            let mut part = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
            from.read_exact(&mut part).map_err(|error| Error::new(Code::IO, format!("cannot read {name}: {error}")))?;
            left -= part.len() as u64;
            Ok((!part.is_empty()).then(|| Bytes::from(part)))
        };
        client.put_parts(ty, size, &[], hold, next).await
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
        let other = listing.rows.iter().map(|row| (row.node, "no job".to_owned(), row.other));
        let held: Vec<_> = by_job.chain(other).filter(|(_, _, held)| held.objects > 0).collect();
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
pub(crate) fn is_raw(ty: &Type) -> bool {
    matches!(ty, Type::String) || matches!(ty, Type::List(element) if element.scalar().is_some())
}

/// Reads a type whose stored form is bare bytes.
pub(crate) fn raw_type(text: &str) -> Result<Type, String> {
    if text.trim() == "string" {
        return Ok(Type::String);
    }
    let element = text.trim().strip_prefix("list<").and_then(|rest| rest.strip_suffix('>')).map(str::trim);
    let scalar = element.and_then(|element| SCALARS.iter().copied().find(|scalar| Type::from(*scalar).to_string() == element));
    scalar
        .map(|scalar| Type::list(scalar.into()))
        .ok_or_else(|| format!("`{text}` is no type that a file is: string, or a list of numbers such as list<u8> or list<f64>"))
}

const SCALARS: &[Scalar] = &[
    Scalar::Bool,
    Scalar::S8,
    Scalar::U8,
    Scalar::S16,
    Scalar::U16,
    Scalar::S32,
    Scalar::U32,
    Scalar::S64,
    Scalar::U64,
    Scalar::F32,
    Scalar::F64,
    Scalar::Char,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_files_are_those_that_are_stored_as_bare_bytes() {
        for text in ["list<u8>", "string", "list<f64>", " list< s16 > "] {
            assert!(is_raw(&raw_type(text).unwrap()), "{text}");
        }
        for text in ["u8", "list<string>", "list<list<u8>>", "", "list<u8", "record { x: u8 }"] {
            assert!(raw_type(text).is_err(), "{text}");
        }
    }
}
