//! `token`: create, revoke, list, join. A token is drawn here; the cluster hears its hash, and this command prints it, once.

use std::{process::ExitCode, time::Duration};

use rwasm_runtime::now_ms;
use rwasm_tls::JoinToken;
use rwasm_types::{
    Code, Error, Name, Result, TokenHash, TokenId,
    api::{Invitation, InvitationRecord, Listing, NewToken, Order, Query, TokenRecord},
};

use crate::{
    args::{TargetArgs, access::TokenCommand},
    embedded::{random, user_token},
    target, ui,
};

/// `rwasm token …`.
pub(crate) async fn token(command: TokenCommand, json: bool) -> Result<ExitCode> {
    match command {
        TokenCommand::Create { expires: Some(Duration::ZERO), .. } => {
            return Err(Error::new(Code::INVALID_ARGUMENT, "a token that expires at once opens nothing").hint("write a time, as 30d"));
        }
        TokenCommand::Create { tenant, role, expires, name, target } => {
            let expires_ms =
                expires.map(|expires| u64::try_from(expires.as_millis()).map_or(u64::MAX, |left| now_ms().saturating_add(left)));
            let token = user_token()?;
            let new = NewToken { id: token.id(), hash: token.hash(), tenant, role, name, expires_ms };
            let record: TokenRecord = target::connect(&target).await?.order(&Order::CreateToken(new)).await?;
            if json {
                let mut shown = serde_json::to_value(&record).map_err(|error| Error::internal(format!("a token has no JSON: {error}")))?;
                shown["token"] = token.reveal().into();
                ui::json(&shown)?;
            } else {
                ui::line(&token.reveal())?;
                let until = record.expires_ms.map_or_else(|| "for ever".to_owned(), |expires| format!("until {}", ui::time(expires)));
                ui::note(&format!("token {} opens tenant {} as {}, {until}; it is not shown again", record.id, record.tenant, record.role));
            }
        }
        TokenCommand::Revoke { token, target } => {
            let client = target::connect(&target).await?;
            match client.order::<TokenRecord>(&Order::RevokeToken { token }).await {
                Ok(record) if json => ui::json(&record)?,
                Ok(record) => ui::line(&format!("revoked token {} of tenant {}", record.id, record.tenant))?,
                // It may be one for nodes.
                Err(unknown) if unknown.code() == Code::NOT_FOUND => {
                    let order = Order::RevokeInvitation { token };
                    let record: InvitationRecord =
                        client.order(&order).await.map_err(|error| if error.code() == Code::NOT_FOUND { unknown } else { error })?;
                    if json {
                        ui::json(&record)?;
                    } else {
                        ui::line(&format!("revoked join token {}, which {} more nodes could have joined with", record.id, record.nodes))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        TokenCommand::List { tenant, target } => {
            let client = target::connect(&target).await?;
            let open: Listing<InvitationRecord> = match &tenant {
                None => client.query(&Query::Invitations).await?,
                // Nodes are nobody's.
                Some(_) => Listing::default(),
            };
            let listing: Listing<TokenRecord> = client.query(&Query::Tokens { tenant }).await?;
            if json {
                let mut shown = serde_json::to_value(&listing).map_err(|error| Error::internal(format!("tokens have no JSON: {error}")))?;
                shown["join_tokens"] =
                    serde_json::to_value(&open.rows).map_err(|error| Error::internal(format!("tokens have no JSON: {error}")))?;
                ui::json(&shown)?;
            } else {
                let rows = open.rows.iter().map(open_row).chain(listing.rows.iter().map(row));
                ui::table(&["TOKEN", "TENANT", "ROLE", "NAME", "CREATED", "STATE"], rows)?;
            }
        }
        TokenCommand::Join { expires, nodes, target } => join(expires, nodes, &target, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn join(expires: Duration, nodes: u32, target: &TargetArgs, json: bool) -> Result<()> {
    let (id, secret) = (TokenId::from_random(random()?), random()?);
    let life_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
    let order = Order::InviteNode { id, hash: TokenHash::of_join(id, &secret), life_ms, nodes };
    let invitation: Invitation = target::connect(target).await?.order(&order).await?;
    let token = JoinToken::from_random(id, secret, invitation.authority.parse()?);
    if json {
        let mut shown = serde_json::to_value(&invitation).map_err(|error| Error::internal(format!("a token has no JSON: {error}")))?;
        shown["token"] = token.reveal().into();
        return ui::json(&shown);
    }
    ui::line(&token.reveal())?;
    let who = if nodes == 1 { "one node joins".to_owned() } else { format!("up to {nodes} nodes join") };
    ui::note(&format!("  {who} with it until {}:", ui::time(invitation.expires_ms)));
    ui::note("  RWASM_JOIN_TOKEN=TOKEN rwasm start --address HEAD:PORT --host IP");
    ui::note("  HEAD:PORT is where the head listens for nodes, as `rwasm start --head` said it; IP is the new node's own");
    ui::note(&format!("  drivers believe this cluster with RWASM_CA={}", invitation.authority));
    Ok(())
}

fn open_row(row: &InvitationRecord) -> Vec<String> {
    let state = format!("until {}, for {} nodes", ui::time(row.expires_ms), row.nodes);
    vec![row.id.to_string(), String::new(), "join".to_owned(), String::new(), String::new(), state]
}

fn row(row: &TokenRecord) -> Vec<String> {
    let state = match (row.revoked_ms, row.expires_ms) {
        (Some(revoked), _) => format!("revoked {}", ui::time(revoked)),
        (None, Some(expires)) if expires <= now_ms() => format!("expired {}", ui::time(expires)),
        (None, Some(expires)) => format!("until {}", ui::time(expires)),
        (None, None) => "good".to_owned(),
    };
    let name = row.name.as_ref().map(Name::to_string).unwrap_or_default();
    vec![row.id.to_string(), row.tenant.to_string(), row.role.to_string(), name, ui::time(row.created_ms), state]
}
