//! Files and objects in the place of arguments: `@file(PATH)`, `{"$file": "PATH"}`, `@ref(o…)`.
//!
//! Files are stored once the job is there that holds them. Until then placeholders stand for them, ids of a node that no cluster has, so
//! that calls are checked and encoded before anything is sent; then the ids of the objects take their places.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rwasm_client::{Client, Hold};
use rwasm_types::{
    Code, Error, JobId, NodeId, ObjectId, Result,
    api::{ObjectRecord, ObjectState, Query},
};
use rwasm_values::{
    Limits, Ref, Scalar, Signature, Type,
    codec::{self, ArgView, ArgsView},
    wave,
};
use serde_json::Value;

use crate::commands::object::{STDIN, Upload};

/// How many objects are looked at before a job is opened; the cluster looks at all of them.
const CHECKED_MAX: usize = 1_000;

/// The files that calls name.
#[derive(Debug, Default)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    numbers: HashMap<PathBuf, usize>,
}

/// What is to be stored before calls are submitted.
#[derive(Default)]
pub(crate) struct Uploads(Vec<Upload>);

impl Files {
    /// A call's arguments with placeholders for files.
    pub(crate) fn in_wave(&mut self, text: &str) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for file in wave::find_files(text)? {
            out.push_str(&text[from..file.range.start]);
            out.push_str(&format!("@ref({})", self.placeholder(file.path.into())));
            from = file.range.end;
        }
        out.push_str(&text[from..]);
        Ok(out)
    }

    /// A line of JSON with placeholders for files; `None` if it names none.
    pub(crate) fn in_json(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if !text.windows(FILE_KEY.len() + 2).any(|window| window.starts_with(b"\"$file\"")) {
            return None;
        }
        // What is no JSON is refused by whoever reads it next.
        let mut value: Value = serde_json::from_slice(text).ok()?;
        self.replace(&mut value);
        serde_json::to_vec(&value).ok()
    }

    fn replace(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) if map.len() == 1 && map.get(FILE_KEY).is_some_and(Value::is_string) => {
                let path = map.get(FILE_KEY).and_then(Value::as_str).unwrap_or_default();
                *value = serde_json::json!({ "$ref": self.placeholder(path.into()).to_string() });
            }
            Value::Object(map) => map.values_mut().for_each(|value| self.replace(value)),
            Value::Array(values) => values.iter_mut().for_each(|value| self.replace(value)),
            _ => {}
        }
    }

    /// Stands for a file: the same path is stored once.
    fn placeholder(&mut self, path: PathBuf) -> ObjectId {
        let number = *self.numbers.entry(path).or_insert_with_key(|path| {
            self.paths.push(path.clone());
            self.paths.len() - 1
        });
        JobId { owner: placeholder_node(), session: u32::MAX }.task(number as u64).object(0)
    }

    /// Whether one of them is standard input.
    pub(crate) fn read_stdin(&self) -> bool {
        self.numbers.contains_key(Path::new(STDIN))
    }

    /// Finds out which type each file has, and checks what can be checked before anything is sent. Reads what has no size before it is read,
    /// which may never end.
    pub(crate) fn uploads(self, signature: &Signature, tasks: &[Bytes]) -> Result<Uploads> {
        if self.paths.is_empty() {
            return Ok(Uploads::default());
        }
        let mut types: BTreeMap<usize, Type> = BTreeMap::new();
        for args in tasks {
            let view = ArgsView::parse(signature, args, &Limits { bytes: args.len(), ..Limits::default() })?;
            for (param, arg) in signature.params.iter().zip(view.params()) {
                let ArgView::Ref(index) = arg else { continue };
                let Some(number) = view.refs().get(*index).and_then(file_number) else { continue };
                if types.insert(number, param.ty.clone()).is_some_and(|before| before != param.ty) {
                    let path = self.paths.get(number).map(|path| path.display().to_string()).unwrap_or_default();
                    return Err(Error::new(Code::WRONG_TYPE, format!("{path} is given to parameters of different types")));
                }
            }
        }
        let bytes = Type::list(Scalar::U8.into());
        let upload = |(number, path): (usize, PathBuf)| Upload::of(&path, types.remove(&number).unwrap_or_else(|| bytes.clone()));
        self.paths.into_iter().enumerate().map(upload).collect::<Result<_>>().map(Uploads)
    }
}

/// The key of a file in JSON.
const FILE_KEY: &str = "$file";

impl Uploads {
    /// Stores the files for a job, and has the arguments name them.
    pub(crate) async fn store(self, client: &Client, job: JobId, tasks: Vec<Bytes>) -> Result<Vec<Bytes>> {
        if self.0.is_empty() {
            return Ok(tasks);
        }
        let mut stored = Vec::with_capacity(self.0.len());
        for upload in self.0 {
            stored.push(upload.store(client, Hold::Job(job)).await?);
        }
        let to = |entry: Ref| file_number(entry).and_then(|number| stored.get(number)).map_or(entry, |id| Ref::Object(*id));
        tasks.iter().map(|args| codec::map_refs(args, to)).collect()
    }
}

/// Checks that objects that calls name are there, and of the types of their parameters.
///
/// # Errors
///
/// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`] or [`Code::OBJECT_TYPE`].
pub(crate) async fn check(client: &Client, signature: &Signature, tasks: &[Bytes]) -> Result<()> {
    let mut known: HashMap<ObjectId, ObjectRecord> = HashMap::new();
    for args in tasks.iter().filter(|args| !args.is_empty()) {
        let view = ArgsView::parse(signature, args, &Limits { bytes: args.len(), ..Limits::default() })?;
        for id in view.refs().iter().filter(|entry| file_number(*entry).is_none()).filter_map(|entry| object(&entry)) {
            if known.len() >= CHECKED_MAX {
                return Ok(());
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = known.entry(id) {
                entry.insert(client.query(&Query::Object { object: id }).await?);
            }
        }
        for (param, arg) in signature.params.iter().zip(view.params()) {
            let ArgView::Ref(index) = arg else { continue };
            let Some(record) = view.refs().get(*index).and_then(|entry| object(&entry)).and_then(|id| known.get(&id)) else { continue };
            match record.state {
                ObjectState::Lost => {
                    let lost = || Error::new(Code::OBJECT_LOST, format!("object {} is lost", record.id));
                    return Err(record.error.clone().unwrap_or_else(lost));
                }
                ObjectState::Ready if record.type_hash != param.ty.hash().to_string() => {
                    let message =
                        format!("parameter `{}` is of type `{}`, and object {} is a `{}`", param.name, param.ty, record.id, record.ty);
                    return Err(Error::new(Code::OBJECT_TYPE, message).with("object", record.id).with("parameter", &param.name));
                }
                ObjectState::Ready | ObjectState::Pending => {}
            }
        }
    }
    Ok(())
}

fn object(entry: &Ref) -> Option<ObjectId> {
    if let Ref::Object(id) = entry { Some(*id) } else { None }
}

fn placeholder_node() -> NodeId {
    NodeId::new(u32::MAX).unwrap_or(NodeId::FIRST)
}

/// Which file a placeholder stands for.
fn file_number(entry: Ref) -> Option<usize> {
    let id = object(&entry).filter(|id| id.task.owner == placeholder_node() && id.task.session == u32::MAX)?;
    usize::try_from(id.task.sequence).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_for_files_and_each_path_is_stored_once() {
        let mut files = Files::default();
        let text = files.in_wave("f(@file(a.csv), 1, @file(\"b c\"), @file(a.csv))").unwrap();
        let (a, b) = (files.placeholder("a.csv".into()), files.placeholder("b c".into()));
        assert_eq!(text, format!("f(@ref({a}), 1, @ref({b}), @ref({a}))"));
        let line = files.in_json(br#"[{"$file": "b c"}, [{"$file": 1}], "$file"]"#).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), format!(r#"[{{"$ref":"{b}"}},[{{"$file":1}}],"$file"]"#));
        assert_eq!(files.in_json(b"[1, 2]"), None);
        assert_eq!((files.paths.len(), file_number(Ref::Object(b))), (2, Some(1)));
        assert!(!files.read_stdin());
        files.in_wave("f(@file(-))").unwrap();
        assert!(files.read_stdin());
    }
}
