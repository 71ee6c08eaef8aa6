//! How each exported function is used: as a task, to make an actor, as a method of one, or not at all and why.

use std::collections::HashSet;

use rwasm_values::{ExportName, Resource, ResourceName, Role, Signature, Type};

use crate::{imports, types::Converted};

/// What a function is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A function, or a static one of a resource.
    Free,
    Constructor,
    Method,
}

impl Kind {
    fn of(func: &str) -> Self {
        if func.starts_with("[constructor]") {
            Self::Constructor
        } else if func.starts_with("[method]") {
            Self::Method
        } else {
            Self::Free
        }
    }
}

/// Decides the roles of all functions of a component.
pub(crate) struct Roles {
    /// Which resources a method hands out: that of its actor, and what it returns.
    handed_out: HashSet<(ResourceName, ResourceName)>,
}

impl Roles {
    /// Takes a first look at all functions.
    pub(crate) fn new<'s>(functions: impl Iterator<Item = (&'s ExportName, &'s Signature)>) -> Self {
        let mut handed_out = HashSet::new();
        for (_, signature) in functions.filter(|(name, _)| Kind::of(&name.func) == Kind::Method) {
            let Some(actor) = receiver(signature) else { continue };
            for resource in signature.result.iter().flat_map(named) {
                handed_out.insert((actor.clone(), resource));
            }
        }
        Self { handed_out }
    }

    /// The role of a function.
    pub(crate) fn role(&self, name: &ExportName, converted: &Converted) -> Role {
        let Converted { signature, imported } = converted;
        if name.func == "run" && name.interface.as_ref().is_some_and(imports::is_run) && is_run(signature) {
            return Role::Command;
        }
        let role = Self::check_storable(signature).and_then(|()| match (imported, Kind::of(&name.func)) {
            (Some(resource), _) => Err(format!("it uses the resource `{resource}`, which the component imports")),
            (None, Kind::Method) => self.method(signature),
            (None, Kind::Free | Kind::Constructor) => Self::function(signature),
        });
        role.unwrap_or_else(|why| Role::NotCallable { why })
    }

    fn check_storable(signature: &Signature) -> Result<(), String> {
        for (ty, of_param) in types(signature) {
            let mut why = None;
            ty.any(&mut |ty| {
                let what = match ty {
                    Type::Stream(_) => "a stream",
                    Type::Future(_) => "a future",
                    Type::ErrorContext => "an error-context",
                    Type::Elided => {
                        why = Some("its types are larger than the limits".to_owned());
                        return true;
                    }
                    _ => return false,
                };
                why = Some(format!("it {} {what}, which cannot leave the guest", if of_param { "takes" } else { "returns" }));
                true
            });
            if let Some(why) = why {
                return Err(why);
            }
        }
        Ok(())
    }

    /// A function or constructor: it takes no resource of the component's own, and makes an actor if it returns one.
    fn function(signature: &Signature) -> Result<Role, String> {
        if let Some(resource) = signature.params.iter().flat_map(|param| named(&param.ty)).next() {
            return Err(format!("it takes a handle of `{resource}`, which only an actor holds"));
        }
        let made = match &signature.result {
            Some(Type::Result(result)) => result.ok.as_ref(),
            result => result.as_ref(),
        };
        let inside: Vec<ResourceName> = signature.result.iter().flat_map(named).collect();
        match (made, inside.as_slice()) {
            (_, []) => Ok(Role::Task),
            (Some(Type::Own(Resource::Named(resource))), [_]) => Ok(Role::ActorCreate { resource: (**resource).clone() }),
            (_, [resource, ..]) => Err(format!("it returns a handle of `{resource}` inside of another value")),
        }
    }

    /// A method: besides the actor itself, it takes only what the actor's methods hand out.
    fn method(&self, signature: &Signature) -> Result<Role, String> {
        let Some(actor) = receiver(signature) else { return Err("it is a method without a receiver".to_owned()) };
        let mut others = signature.params.iter().skip(1).flat_map(|param| named(&param.ty));
        match others.find(|resource| !self.handed_out.contains(&(actor.clone(), resource.clone()))) {
            Some(resource) => Err(format!("it takes a handle of `{resource}`, which only another actor could hold")),
            None => Ok(Role::ActorMethod { resource: actor.clone() }),
        }
    }
}

/// Whether this is the type of a program: `func() -> result`.
fn is_run(signature: &Signature) -> bool {
    signature.params.is_empty() && signature.result == Some(Type::result(None, None))
}

/// The resource of a method.
fn receiver(signature: &Signature) -> Option<&ResourceName> {
    match &signature.params.first()?.ty {
        Type::Borrow(Resource::Named(resource)) => Some(resource),
        _ => None,
    }
}

/// All types of a signature, and whether each is a parameter's.
fn types(signature: &Signature) -> impl Iterator<Item = (&Type, bool)> {
    signature.params.iter().map(|param| (&param.ty, true)).chain(signature.result.iter().map(|ty| (ty, false)))
}

/// The resources in a type, but for the object handle.
fn named(ty: &Type) -> Vec<ResourceName> {
    let mut found = Vec::new();
    ty.any(&mut |ty| {
        if let Type::Own(Resource::Named(resource)) | Type::Borrow(Resource::Named(resource)) = ty {
            found.push((**resource).clone());
        }
        false
    });
    found
}
