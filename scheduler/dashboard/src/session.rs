//! Who is signed in. A browser holds a random id in a cookie that scripts cannot read; the token stays here, in memory.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rwasm_types::{Error, Result};

/// Sessions at once; beyond, the one that was opened first is signed out.
const SESSIONS_MAX: usize = 1_024;
/// How long a session lasts.
pub(crate) const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);

/// The sessions, by the hashes of their ids: looking one up takes the same time however much of a guess is right.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<blake3::Hash, Session>>);

struct Session {
    token: String,
    opened: Instant,
}

impl Sessions {
    /// Opens a session for a token that was accepted; gives its id.
    ///
    /// # Errors
    ///
    /// If the machine has no random numbers.
    pub(crate) fn open(&self, token: &str) -> Result<String> {
        let bytes = rwasm_runtime::random_bytes::<32>().map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        let id = blake3::Hash::from_bytes(bytes).to_hex().to_string();
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.opened.elapsed() < SESSION_LASTS);
        if sessions.len() >= SESSIONS_MAX {
            let first = sessions.iter().min_by_key(|(_, session)| session.opened).map(|(hash, _)| *hash);
            first.map(|first| sessions.remove(&first));
        }
        sessions.insert(blake3::hash(id.as_bytes()), Session { token: token.to_owned(), opened: Instant::now() });
        Ok(id)
    }

    /// The token of a session that has not ended.
    pub(crate) fn token(&self, id: &str) -> Option<String> {
        let sessions = self.0.lock();
        let session = sessions.get(&blake3::hash(id.as_bytes()))?;
        (session.opened.elapsed() < SESSION_LASTS).then(|| session.token.clone())
    }

    /// Ends a session.
    pub(crate) fn close(&self, id: &str) {
        self.0.lock().remove(&blake3::hash(id.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_own_and_ends() {
        let sessions = Sessions::default();
        let (a, b) = (sessions.open("a").unwrap(), sessions.open("b").unwrap());
        assert_eq!((a.len(), sessions.token(&a), sessions.token(&b)), (64, Some("a".into()), Some("b".into())));
        sessions.close(&a);
        assert_eq!((sessions.token(&a), sessions.token(&b), sessions.token("")), (None, Some("b".into()), None));
    }

    #[test]
    fn the_table_is_bounded() {
        let sessions = Sessions::default();
        let first = sessions.open("first").unwrap();
        let last = (0..SESSIONS_MAX).map(|_| sessions.open("t").unwrap()).last().unwrap();
        assert_eq!(sessions.token(&first), None);
        assert!(sessions.token(&last).is_some());
        assert_eq!(sessions.0.lock().len(), SESSIONS_MAX);
    }
}
