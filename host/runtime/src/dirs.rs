//! Where things lie on this machine, for this user.

use std::{env, path::PathBuf};

/// The three directories of a user's rwasm, by the XDG rules, each movable by a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// Endpoints of running daemons; empty after a reboot. `RWASM_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/rwasm`, else `/tmp/rwasm-UID`.
    pub runtime: PathBuf,
    /// What must survive. `RWASM_STATE_DIR`, else `$XDG_STATE_HOME/rwasm`, else `~/.local/state/rwasm`.
    pub state: PathBuf,
    /// What can be made again. `RWASM_CACHE_DIR`, else `$XDG_CACHE_HOME/rwasm`, else `~/.cache/rwasm`.
    pub cache: PathBuf,
}

impl Dirs {
    /// The directories as the environment says.
    pub fn from_env() -> Self {
        Self::from_vars(|name| env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let temporary = PathBuf::from(format!("/tmp/rwasm-{uid}"));
        // XDG says to ignore relative paths.
        let xdg = |name: &str| var(name).filter(|path| path.is_absolute());
        let home = |below: &str| var("HOME").map(|home| home.join(below));
        let pick = |own: &str, xdg_name: &str, below_home: Option<&str>, last: &str| {
            var(own)
                .or_else(|| xdg(xdg_name).or_else(|| below_home.and_then(home)).map(|base| base.join("rwasm")))
                .unwrap_or_else(|| temporary.join(last))
        };
        Self {
            runtime: pick("RWASM_RUNTIME_DIR", "XDG_RUNTIME_DIR", None, ""),
            state: pick("RWASM_STATE_DIR", "XDG_STATE_HOME", Some(".local/state"), "state"),
            cache: pick("RWASM_CACHE_DIR", "XDG_CACHE_HOME", Some(".cache"), "cache"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_win_over_xdg_over_home_over_tmp() {
        let dirs = |vars: &[(&str, &str)]| {
            Dirs::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        let plain = dirs(&[("HOME", "/home/a")]);
        assert_eq!(plain.state, PathBuf::from("/home/a/.local/state/rwasm"));
        assert!(plain.runtime.starts_with("/tmp"));
        let xdg =
            dirs(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/run/user/1"), ("XDG_CACHE_HOME", "relative")]);
        assert_eq!((xdg.state, xdg.runtime), (PathBuf::from("/s/rwasm"), PathBuf::from("/run/user/1/rwasm")));
        assert_eq!(xdg.cache, PathBuf::from("/home/a/.cache/rwasm"));
        assert_eq!(dirs(&[("RWASM_STATE_DIR", "/x"), ("XDG_STATE_HOME", "/s")]).state, PathBuf::from("/x"));
        assert!(dirs(&[]).cache.ends_with("cache"));
    }
}
