//! The text with which a node joins once: which token it is, the secret, and the authority that the node is to believe.

use std::str::FromStr;

use rwasm_types::{Code, Error, Result, TokenHash, TokenId};

use crate::{Fingerprint, fingerprint::read_hex};

const PREFIX: &str = "rwj_";

/// A join token, all hexadecimal, so that one that was cut or mistyped is found out before it is shown to anybody. It has no `Display`, so
/// that none is printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: TokenId,
    /// What nobody else has.
    secret: [u8; 32],
    /// The authority of the cluster.
    pub authority: Fingerprint,
}

impl JoinToken {
    /// The token of bytes that were drawn at random.
    pub fn from_random(id: TokenId, secret: [u8; 32], authority: Fingerprint) -> Self {
        Self { id, secret, authority }
    }

    /// Whether a text means to be a join token.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Which token it is; no secret.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What the head keeps of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of_join(self.id, &self.secret)
    }

    /// The text, `rwj_ID_SECRET_FINGERPRINT`. For the eyes of whoever made it, and for the head.
    pub fn reveal(&self) -> String {
        let secret: String = self.secret.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{}_{secret}_{}", self.id, self.authority.hex())
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let mut parts = text.trim().strip_prefix(PREFIX)?.split('_');
            let (id, secret, authority) = (parts.next()?.parse().ok()?, read_hex(parts.next()?)?, Fingerprint::from_hex(parts.next()?)?);
            parts.next().is_none().then_some(Self { id, secret, authority })
        };
        read().ok_or_else(|| {
            Error::new(Code::JOIN_TOKEN_MALFORMED, "the join token is not whole")
                .hint("copy all of the line that `rwasm token join` printed: it begins with `rwj_` and has 150 characters")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_whole_or_not_at_all() {
        let token = JoinToken::from_random(TokenId::from_random([1; 8]), [2; 32], Fingerprint::of(b"x"));
        let text = token.reveal();
        assert_eq!((text.len(), text.parse::<JoinToken>().unwrap()), (150, token.clone()));
        for cut in 0..text.len() {
            assert_eq!(text[..cut].parse::<JoinToken>().unwrap_err().code(), Code::JOIN_TOKEN_MALFORMED, "{cut}");
        }
        assert!(format!("{text}_1").parse::<JoinToken>().is_err() && text.replace('2', "x").parse::<JoinToken>().is_err());
        assert!(!format!("{token:?}").contains("0202"));
    }
}
