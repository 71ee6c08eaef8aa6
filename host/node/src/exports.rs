//! The export that a call names.

use rwasm_types::{ActorId, Code, Error, Result};
use rwasm_values::{ArtifactInfo, Export, Role};

use crate::actors::find_method;

/// The export that a call names, as callers see it: a method of an actor, or what can be called as a task or makes an actor.
pub(crate) fn callable(info: &ArtifactInfo, name: &str, actor: Option<ActorId>) -> Result<(usize, Export)> {
    if actor.is_some() {
        return find_method(info, name);
    }
    let (index, export) = find_export(info, name)?;
    match &export.role {
        Role::ActorMethod { .. } => {
            let error = Error::new(Code::NOT_CALLABLE, format!("`{}` is a method, and is called on an actor", export.name));
            Err(error.hint("make the actor with `rwasm actor create`, and call it with `rwasm actor call`"))
        }
        _ => Ok((index, export)),
    }
}

/// The export that a call names, with its type as callers see it; no name means the artifact's command.
pub(crate) fn find_export(info: &ArtifactInfo, name: &str) -> Result<(usize, Export)> {
    let export = if name.is_empty() {
        info.command().ok_or_else(|| {
            Error::new(Code::NO_SUCH_EXPORT, "the artifact is no command: it has no `wasi:cli/run`")
                .hint("name an export with --call; `rwasm inspect` lists them")
        })?
    } else {
        info.resolve(name)?
    };
    if let Role::NotCallable { why } = &export.role {
        return Err(Error::new(Code::NOT_CALLABLE, format!("`{}` cannot be called: {why}", export.name)));
    }
    let index = info.exports.iter().position(|known| std::ptr::eq(known, export)).unwrap_or_default();
    Ok((index, Export { name: export.name.clone(), signature: export.outward().into_owned(), role: export.role.clone() }))
}
