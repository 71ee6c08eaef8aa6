//! Which export a name means.

use rwasm_types::{Code, Error};
use semver::Version;

use crate::{ArtifactInfo, Export, ExportName, ResourceName, Role, fault::one_line};

/// The most names that an error lists.
const LISTED_MAX: usize = 8;

/// How alike two names must be to be suggested for each other, of 1.
const NEAR_MIN: f64 = 0.75;

impl ArtifactInfo {
    /// The export that a name means. All of these are taken, as long as they mean one export only:
    ///
    /// ```text
    /// add                          the function
    /// ops/add                      of the interface
    /// demo:math/ops/add            of the package
    /// demo:math/ops@1.2.0/add      of the version; ops@1.2.0/add as well
    /// demo:math/add                of the package, whatever the interface
    /// account.balance              [method]account.balance and [static]account.balance
    /// account                      [constructor]account
    /// ```
    ///
    /// A name that an export has in full always means that export.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_EXPORT`] with names that are near, [`Code::AMBIGUOUS_EXPORT`] with the candidates, or [`Code::NOT_CALLABLE`]
    /// with the reason.
    pub fn resolve(&self, name: &str) -> Result<&Export, Error> {
        let export = match self.exports.iter().find(|export| export.name.to_string() == name) {
            Some(export) => export,
            None => self.match_parts(name)?,
        };
        match &export.role {
            Role::NotCallable { why } => {
                Err(Error::new(Code::NOT_CALLABLE, format!("`{}` cannot be called: {why}", export.name)).with("export", &export.name))
            }
            _ => Ok(export),
        }
    }

    /// The method of a class that a name means: `increment`, `counter.increment`, or any that [`ArtifactInfo::resolve`] takes.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_EXPORT`] with the methods that there are, or as [`ArtifactInfo::resolve`].
    pub fn method(&self, class: &ResourceName, name: &str) -> Result<&Export, Error> {
        let of_class = |export: &&Export| matches!(&export.role, Role::ActorMethod { resource } if resource == class);
        let short = |export: &&Export| export.name.plain_func().rsplit_once('.').is_some_and(|(_, method)| method == name);
        if let Some(export) = self.exports.iter().filter(of_class).find(short) {
            return Ok(export);
        }
        if let Some(export) = self.resolve(name).ok().filter(of_class) {
            return Ok(export);
        }
        let methods: Vec<&str> = self.exports.iter().filter(of_class).map(|export| export.name.plain_func()).collect();
        let error = Error::new(Code::NO_SUCH_EXPORT, format!("`{}` has no method `{}`", class.name, one_line(name, 120)));
        Err(if methods.is_empty() { error } else { error.hint(format!("it has {}", listed(&methods))) })
    }

    fn match_parts(&self, name: &str) -> Result<&Export, Error> {
        let wanted = Wanted::read(name);
        let matches: Vec<&Export> =
            self.exports.iter().filter(|export| wanted.as_ref().is_some_and(|wanted| wanted.fits(&export.name))).collect();
        match matches[..] {
            [export] => Ok(export),
            [] => Err(self.no_such_export(name)),
            _ => {
                let names: Vec<String> = matches.iter().map(|export| export.name.to_string()).collect();
                let message = format!("`{}` fits more than one export: {}", one_line(name, 120), listed(&names));
                Err(Error::new(Code::AMBIGUOUS_EXPORT, message).hint("write more of the name"))
            }
        }
    }

    fn no_such_export(&self, name: &str) -> Error {
        let error = Error::new(Code::NO_SUCH_EXPORT, format!("the artifact has no export `{}`", one_line(name, 120)));
        let func = head(name.rsplit('/').next().unwrap_or(name));
        let callable = || self.exports.iter().filter(|export| export.role.is_callable());
        let mut near: Vec<(f64, &ExportName)> = callable()
            .map(|export| (strsim::jaro_winkler(&func, &head(export.name.plain_func())), &export.name))
            .filter(|(likeness, _)| *likeness >= NEAR_MIN)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near: Vec<String> = near.iter().map(|(_, name)| name.to_string()).collect();
        if !near.is_empty() {
            return error.hint(format!("did you mean {}?", listed(&near)));
        }
        let all: Vec<String> = callable().map(|export| export.name.to_string()).collect();
        if all.is_empty() { error } else { error.hint(format!("it exports {}", listed(&all))) }
    }
}

/// A name taken apart. What is `None` was not said, and fits anything.
struct Wanted<'a> {
    package: Option<(&'a str, &'a str)>,
    interface: Option<&'a str>,
    version: Option<Version>,
    func: &'a str,
    /// Whether neither package nor interface was said, so that a function outside of any fits.
    bare: bool,
}

impl<'a> Wanted<'a> {
    /// Takes a name apart; `None` if it can name nothing.
    fn read(name: &'a str) -> Option<Self> {
        let Some((place, func)) = name.rsplit_once('/') else {
            return Some(Self { package: None, interface: None, version: None, func: name, bare: true });
        };
        let (place, version) = match place.split_once('@') {
            Some((place, version)) => (place, Some(Version::parse(version).ok()?)),
            None => (place, None),
        };
        let (package, interface) = match place.split_once('/') {
            Some((package, interface)) => (Some(package), Some(interface)),
            None if place.contains(':') => (Some(place), None),
            None => (None, Some(place)),
        };
        let package = package.map(|package| package.split_once(':'));
        match package {
            Some(None) => None,
            package => Some(Self { package: package.flatten(), interface, version, func, bare: false }),
        }
    }

    fn fits(&self, name: &ExportName) -> bool {
        if self.func != name.func && self.func != name.plain_func() {
            return false;
        }
        let Some(interface) = &name.interface else { return self.bare };
        let package = interface.package.as_ref();
        self.interface.is_none_or(|wanted| *wanted == *interface.name)
            && self.package.is_none_or(|wanted| package.is_some_and(|package| wanted == (&*package.namespace, &*package.name)))
            && self.version.as_ref().is_none_or(|wanted| interface.version() == Some(wanted))
    }
}

/// What is compared of a name: enough for people, and little enough for a likeness that costs the product of the lengths.
fn head(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Names as text, the first few of them.
pub(crate) fn listed(names: &[impl std::fmt::Display]) -> String {
    let mut text: Vec<String> = names.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    if names.len() > LISTED_MAX {
        text.push(format!("and {} more", names.len() - LISTED_MAX));
    }
    text.join(", ")
}
