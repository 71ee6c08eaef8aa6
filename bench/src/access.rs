//! What it costs to find out who calls and whether it may: the whole check, which a session has once and a question each time.
//! A message of a session that is open costs less: whether anything changed since.

use rwasm_auth::{Directory, Door};
use rwasm_types::{
    Error, Result, Role, Tenant, UserToken,
    api::{Ask, NewToken, Query},
};

use crate::timing::Suite;

const ROW: &str = "access: check of a caller, 5,000 tokens";
/// Tokens of a large cluster.
const TOKENS: u64 = 5_000;
/// Checks of one trial's step.
const BATCH: usize = 1_000;

fn user(number: u64) -> UserToken {
    UserToken::from_random(number.to_le_bytes(), [7; 32])
}

pub(crate) fn rows(suite: &mut Suite<'_>) -> Result<()> {
    if !suite.wants(ROW) {
        return Ok(());
    }
    let admin = user(0);
    let mut directory: Directory = Directory::default().found(&admin, 1).into_iter().collect();
    for number in 1..TOKENS {
        let token = user(number);
        let new =
            NewToken { id: token.id(), hash: token.hash(), tenant: None, role: Role::Submitter, name: None, expires_ms: Some(u64::MAX) };
        directory.create_token(&new, &Tenant::default(), 1)?.into_iter().for_each(|edit| directory.apply(edit));
    }
    let (shown, ask) = (user(TOKENS / 2).reveal(), Ask::Query(Query::Status));
    suite.time(ROW, BATCH as f64, || {
        for _ in 0..BATCH {
            let admitted = directory.admit(Some(&shown), 2)?;
            let tenant = Door::Ask(&ask).enter(&admitted.identity, None, &directory)?;
            if tenant != Tenant::default() {
                return Err(Error::internal("a caller was taken for another"));
            }
        }
        Ok(())
    })
}
