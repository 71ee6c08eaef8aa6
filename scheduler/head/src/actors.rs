//! Names of actors: which actor has which name, one of a kind in its tenant. A name is in the journal before anybody is told that it is
//! had, and stays until the actor's owner gives it back. All else of an actor is its owner's.

use bytes::Bytes;
use rwasm_journal::{Change, Table};
use rwasm_runtime::now_ms;
use rwasm_types::{
    ActorId, ActorName, Code, Error, Result, Tenant,
    api::{NamedActor, UnixMs},
};
use serde::{Deserialize, Serialize};

use crate::{ask::json, state::Shared, stored};

/// Names of a tenant's actors.
const NAMES_MAX: usize = 10_000;

/// A name in the journal, under `TENANT/NAMESPACE/NAME`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stored {
    actor: ActorId,
    since_ms: UnixMs,
}

fn key(tenant: &Tenant, name: &ActorName) -> String {
    format!("{tenant}/{}/{}", name.namespace, name.name)
}

impl Shared {
    /// Who has a name.
    ///
    /// # Errors
    ///
    /// [`Code::NOT_FOUND`] if nobody has it.
    pub(crate) fn named_actor(&self, tenant: &Tenant, name: &ActorName) -> Result<Bytes> {
        let stored = stored::get::<Stored>(&self.journal, Table::Actors, &key(tenant, name))?;
        let Stored { actor, .. } = stored.ok_or_else(|| {
            Error::new(Code::NOT_FOUND, format!("there is no actor named {name}")).hint("`rwasm actor list` shows what there is")
        })?;
        json(&NamedActor { name: name.clone(), actor })
    }

    /// Gives a name to an actor, unless another has it; answers with who has it.
    ///
    /// # Errors
    ///
    /// [`Code::LIMIT`] with too many names; what writing the journal says.
    pub(crate) async fn name_actor(&self, tenant: &Tenant, name: &ActorName, actor: ActorId) -> Result<Bytes> {
        // Looking and writing are one step.
        let _one = self.naming.lock().await;
        let key = key(tenant, name);
        let had = stored::get::<Stored>(&self.journal, Table::Actors, &key)?;
        if let Some(Stored { actor, .. }) = had {
            return json(&NamedActor { name: name.clone(), actor });
        }
        if self.journal.scan(Table::Actors, &format!("{tenant}/"))?.len() >= NAMES_MAX {
            let message = format!("tenant {tenant} has {NAMES_MAX} actors with a name, which is the limit");
            return Err(Error::new(Code::LIMIT, message).hint("end some with `rwasm actor kill`"));
        }
        self.journal.commit(vec![stored::put(Table::Actors, key, &Stored { actor, since_ms: now_ms() })?]).await?;
        tracing::info!(%tenant, %name, %actor, "an actor was named");
        json(&NamedActor { name: name.clone(), actor })
    }

    /// Takes a name from an actor, if it has it.
    ///
    /// # Errors
    ///
    /// What writing the journal says.
    pub(crate) async fn unname_actor(&self, tenant: &Tenant, name: &ActorName, actor: ActorId) -> Result<Bytes> {
        let _one = self.naming.lock().await;
        let key = key(tenant, name);
        let had = stored::get::<Stored>(&self.journal, Table::Actors, &key)?;
        if had.is_some_and(|stored| stored.actor == actor) {
            self.journal.commit(vec![Change::Delete { table: Table::Actors, key }]).await?;
            tracing::info!(%tenant, %name, %actor, "an actor's name was given back");
        }
        json(&())
    }
}
