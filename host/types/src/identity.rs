//! Who asks: roles, and the tokens that users show.
//!
//! ```text
//! rwu_0123456789abcdef_<64 hexadecimal digits>     a user's token: its id, and a secret of 256 bits
//! rwn_…, rwj_…                                     what nodes show; no user's token
//! ```
//!
//! A token's id is a name that lists and logs may show. The secret is shown once, to whoever made it; everybody else keeps a
//! [`TokenHash`]. The secret is random and as long as the hash, so a slow hash would protect nothing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error, Result, Tenant};

/// What a token may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees its tenant's jobs, tasks, output and artifacts, and the cluster's nodes.
    Viewer,
    /// Also stores artifacts, submits and stops, in its tenant.
    Submitter,
    /// Also looks into every tenant, and looks after nodes and disks.
    Operator,
    /// Also manages tenants, tokens and policies, and stops jobs of every tenant.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Submitter, Self::Operator, Self::Admin];

    /// The name, as JSON and the command line have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::new(Code::INVALID_ARGUMENT, format!("`{shown}` is no role")).hint("roles are viewer, submitter, operator and admin")
        })
    }
}

/// Names a token: 16 hexadecimal digits. It opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; Self::BYTES]);

impl TokenId {
    const BYTES: usize = 8;

    /// The id of bytes that were drawn at random.
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        read_hex(text).map(Self).ok_or_else(|| {
            // Whoever takes a token for its id must not find it in a log.
            Error::new(Code::INVALID_ARGUMENT, "that is no token's id, which has 16 of 0-9 and a-f").hint("`rwasm token list` shows ids")
        })
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who a caller was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose work it is.
    pub tenant: Tenant,
    /// What it may do.
    pub role: Role,
    /// The token it showed; `None` inside of a process.
    pub token: Option<TokenId>,
}

/// What is kept of a token. Comparing takes the same time whatever differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    /// Of a token with which a node joins: over its id and its secret.
    pub fn of_join(id: TokenId, secret: &[u8; 32]) -> Self {
        Self::derive("rwasm join token, version 1", id, secret)
    }

    fn derive(context: &str, id: TokenId, secret: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&id.0).update(secret);
        Self(hasher.finalize())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A user's token with its secret. It has no `Display`, so that none is printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct UserToken {
    id: TokenId,
    secret: [u8; Self::SECRET_BYTES],
}

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a token of this kind begins with.
const USER_PREFIX: &str = "rwu_";
/// What nodes show begins with one of these.
const NODE_PREFIXES: [&str; 2] = ["rwn_", "rwj_"];

impl UserToken {
    /// Bytes of a secret.
    const SECRET_BYTES: usize = 32;

    /// The token of bytes that were drawn at random: its id, and its secret.
    pub fn from_random(id: [u8; 8], secret: [u8; 32]) -> Self {
        Self { id: TokenId(id), secret }
    }

    /// Reads what a caller shows.
    ///
    /// # Errors
    ///
    /// [`Code::TOKEN_KIND`] for what nodes show, [`Code::TOKEN_MALFORMED`] for what is no whole token. Neither repeats the text.
    pub fn parse(text: &str) -> Result<Self> {
        if NODE_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(Error::new(Code::TOKEN_KIND, "this token is for nodes, not for users")
                .hint("set RWASM_TOKEN to a user's token, which begins with `rwu_`"));
        }
        let malformed = |what: &str| {
            Error::new(Code::TOKEN_MALFORMED, format!("the token is not whole: {what}"))
                .hint("copy it again; it has 85 characters and begins with `rwu_`")
        };
        let rest = text.strip_prefix(USER_PREFIX).ok_or_else(|| malformed("it does not begin with `rwu_`"))?;
        let parts = rest.split_once('_').and_then(|(id, secret)| Some((read_hex(id)?, read_hex(secret)?)));
        let (id, secret) = parts.ok_or_else(|| malformed("what follows is not 16 and 64 of 0-9 and a-f"))?;
        Ok(Self { id: TokenId(id), secret })
    }

    /// Its id.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The text that opens the cluster. For the eyes of whoever made it, and for files that only they can read.
    pub fn reveal(&self) -> String {
        struct Text<'a>(&'a UserToken);
        impl fmt::Display for Text<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{USER_PREFIX}{}_", self.0.id)?;
                write_hex(f, &self.0.secret)
            }
        }
        Text(self).to_string()
    }

    /// What is kept of it: a hash over id and secret.
    pub fn hash(&self) -> TokenHash {
        TokenHash::derive("rwasm user token, version 1", self.id, &self.secret)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes in lower case.
fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roles_are_ordered_and_have_names() {
        assert!(Role::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert_eq!("root".parse::<Role>().unwrap_err().code(), Code::INVALID_ARGUMENT);
    }

    #[test]
    fn what_is_no_users_token_is_told_apart_and_not_repeated() {
        let token = UserToken::from_random([7; 8], [9; 32]).reveal();
        for (text, code) in [
            ("", Code::TOKEN_MALFORMED),
            ("wrong", Code::TOKEN_MALFORMED),
            ("rwu_", Code::TOKEN_MALFORMED),
            (&token[..40], Code::TOKEN_MALFORMED),
            (&token[..84], Code::TOKEN_MALFORMED),
            (&format!("{token}0"), Code::TOKEN_MALFORMED),
            (&token.to_uppercase(), Code::TOKEN_MALFORMED),
            (&token.replace("rwu_", "rwn_"), Code::TOKEN_KIND),
            (&token.replace("rwu_", "rwj_"), Code::TOKEN_KIND),
        ] {
            let error = UserToken::parse(text).unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(!error.to_string().contains("0909"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = UserToken::from_random([7; 8], [0xab; 32]);
        assert!(!format!("{token:?} {:?}", token.hash()).contains("abab"));
    }

    proptest! {
        #[test]
        fn tokens_are_read_as_they_are_written(id: [u8; 8], secret: [u8; 32]) {
            let token = UserToken::from_random(id, secret);
            let text = token.reveal();
            prop_assert_eq!(text.len(), 85);
            let read = UserToken::parse(&text).unwrap();
            prop_assert_eq!(&read, &token);
            prop_assert_eq!(read.id().to_string().parse::<TokenId>().unwrap(), token.id());
            let hash: TokenHash = serde_json::from_str(&serde_json::to_string(&token.hash()).unwrap()).unwrap();
            prop_assert_eq!(hash, token.hash());
        }

        #[test]
        fn another_character_is_another_token(id: [u8; 8], secret: [u8; 32], at in 0usize..85, other in "[0-9a-f_]") {
            let token = UserToken::from_random(id, secret);
            let mut text = token.reveal();
            text.replace_range(at..=at, &other);
            let read = UserToken::parse(&text);
            prop_assert_eq!(read.is_ok_and(|read| read.hash() == token.hash()), text == token.reveal());
        }
    }
}
