//! What the command line says of grants, needs and limits, as the cluster takes it.

use std::{fs, io::Read, path::Path};

use bytes::Bytes;
use rwasm_node::Volume;
use rwasm_types::{
    Access, Code, Error, Grants, Name, Placement, ResourceSet, Result, Strategy, TaskLimits, TaskOptions, VolumeGrant, VolumeSource,
};

use crate::args::{GrantArgs, LimitArgs, NeedArgs, WorkArgs};

/// Reads `HOST::GUEST[:ro]`.
pub(crate) fn directory(text: &str) -> Result<VolumeGrant, String> {
    let (host, guest) = text.split_once("::").ok_or_else(|| format!("`{text}` is not HOST::GUEST[:ro]"))?;
    let (guest, access) = match guest.strip_suffix(":ro") {
        Some(guest) => (guest, Access::ReadOnly),
        None => (guest.strip_suffix(":rw").unwrap_or(guest), Access::ReadWrite),
    };
    if host.is_empty() || guest.is_empty() {
        return Err(format!("`{text}` is not HOST::GUEST[:ro]"));
    }
    Ok(VolumeGrant { source: VolumeSource::Host(host.into()), guest_path: guest.to_owned(), access })
}

/// Reads `NAME=DIR[:ro]`. The directory may be relative to where the command runs, and must exist.
pub(crate) fn volume(text: &str) -> Result<(Name, Volume)> {
    let bad = |why: String| Error::new(Code::INVALID_ARGUMENT, why).hint("write NAME=DIR or NAME=DIR:ro, as in data=/srv/data:ro");
    let (name, path) = text.split_once('=').ok_or_else(|| bad(format!("`{text}` is not NAME=DIR[:ro]")))?;
    let (path, access) = match path.strip_suffix(":ro") {
        Some(path) => (path, Access::ReadOnly),
        None => (path.strip_suffix(":rw").unwrap_or(path), Access::ReadWrite),
    };
    let name = Name::new(name).map_err(|error| bad(error.to_string()))?;
    let path = fs::canonicalize(path).ok().filter(|path| path.is_dir()).ok_or_else(|| {
        Error::new(Code::BAD_DIRECTORY, format!("the directory {path} of volume `{name}` does not exist"))
            .hint("make it, or check --volume")
    })?;
    Ok((name, Volume { path, access }))
}

/// Reads `KEY=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// What `--dir` names on a cluster: volumes of nodes.
///
/// # Errors
///
/// [`Code::NOT_ON_CLUSTER`] for what is a path and no name.
pub(crate) fn on_cluster(args: &mut GrantArgs) -> Result<()> {
    for volume in &mut args.dir {
        if let VolumeSource::Host(path) = &volume.source {
            let name = path.to_str().and_then(|name| Name::new(name).ok()).ok_or_else(|| {
                let message =
                    format!("--dir {}::{} names a directory of this machine, and tasks run on nodes", path.display(), volume.guest_path);
                Error::new(Code::NOT_ON_CLUSTER, message).hint("use `rwasm run`, or name a volume that nodes offer: --dir NAME::GUEST")
            })?;
            volume.source = VolumeSource::Named(name);
        }
    }
    Ok(())
}

/// The grants of a submit. Relative directories are the command's, which may run elsewhere later.
pub(crate) fn grants(args: &GrantArgs, arguments: &[String]) -> Result<Grants> {
    let absolute = |mut volume: VolumeGrant| {
        if let VolumeSource::Host(path) = &volume.source {
            let absolute =
                std::path::absolute(path).map_err(|error| Error::new(Code::IO, format!("cannot resolve {}: {error}", path.display())))?;
            volume.source = VolumeSource::Host(absolute);
        }
        Ok(volume)
    };
    let grants = Grants {
        args: arguments.to_vec(),
        env: args.env.clone(),
        stdin: args.stdin.as_deref().map_or_else(|| Ok(Bytes::new()), read_stdin)?,
        volumes: args.dir.iter().cloned().map(absolute).collect::<Result<_>>()?,
        net: args.allow_net.clone(),
    };
    grants.check()?;
    Ok(grants)
}

fn read_stdin(path: &Path) -> Result<Bytes> {
    let limit = Grants::STDIN_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Error::new(Code::IO, format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes.into())
}

/// The options of a submit's tasks.
pub(crate) fn options(work: &WorkArgs) -> Result<TaskOptions> {
    let NeedArgs { num_cpus, num_gpus, resources, max_retries, priority, label, prefer_label, prefer_node, node, spread, placement_group } =
        work.needs.clone();
    let (memory, custom) = (work.limits.memory.unwrap_or(0), resources.unwrap_or_default());
    Ok(TaskOptions {
        resources: ResourceSet { cpu: num_cpus, gpu: num_gpus, memory, custom }.checked()?,
        limits: limits(&work.limits)?,
        retries_max: max_retries,
        priority,
        placement: Placement {
            strategy: if spread { Strategy::Spread } else { Strategy::Pack },
            node,
            labels: label,
            prefer_node,
            prefer_labels: prefer_label,
            group: placement_group,
        }
        .checked()?,
        name: work.name.as_deref().map(Name::lossy),
        ..TaskOptions::default()
    })
}

/// The limits of a submit's tasks.
pub(crate) fn limits(args: &LimitArgs) -> Result<TaskLimits> {
    let default = TaskLimits::default();
    TaskLimits {
        memory_bytes: args.memory.unwrap_or(default.memory_bytes),
        wall: args.timeout.unwrap_or(default.wall),
        cpu: args.cpu_time.unwrap_or(default.cpu),
        table_elements: args.max_table_elements.unwrap_or(default.table_elements),
        stdout_bytes: args.max_stdout.unwrap_or(default.stdout_bytes),
        stderr_bytes: args.max_stderr.unwrap_or(default.stderr_bytes),
        result_bytes: args.max_result.unwrap_or(default.result_bytes),
    }
    .checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        let read = directory("/srv/a b::/data:ro").unwrap();
        assert_eq!((read.guest_path.as_str(), read.access), ("/data", Access::ReadOnly));
        assert_eq!(directory("a::b").unwrap().access, Access::ReadWrite);
        assert_eq!(directory("a::b:rw").unwrap().guest_path, "b");
        for bad in ["a", "a:b", "::b", "a::", "::"] {
            assert!(directory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_of_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        let (name, read) = volume(&format!("data={}:ro", at.display())).unwrap();
        assert_eq!((name.as_str(), read), ("data", Volume { path: at.clone(), access: Access::ReadOnly }));
        assert_eq!(volume(&format!("data={}", at.display())).unwrap().1.access, Access::ReadWrite);
        assert_eq!(volume(&format!("data={}/gone", at.display())).unwrap_err().code(), Code::BAD_DIRECTORY);
        for bad in ["data", "=/", "a/b=/"] {
            assert_eq!(volume(bad).unwrap_err().code(), Code::INVALID_ARGUMENT, "{bad}");
        }
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
