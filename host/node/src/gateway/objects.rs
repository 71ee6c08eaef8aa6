//! Objects on their way from drivers and to them: parts of a stream, as fast as the other side takes them.

use std::time::Duration;

use rwasm_objects::refs::Holder;
use rwasm_runtime::OnEnd;
use rwasm_types::{ObjectId, Result, Tenant};
use rwasm_wire::{Inbound, Outbound, convert, msg};

use super::Gateway;
use crate::{
    access::Visitor,
    objects::{Incoming, send},
};

/// Parts that may wait for the network, each of up to 1 MiB.
const PARTS: usize = 4;
/// The longest that a tenant holds what nobody else does, and that a driver waits for an object.
const KEEP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

impl Gateway {
    /// Stores a value, part by part.
    pub(super) async fn put_object(&self, tenant: &Tenant, mut parts: Inbound<msg::PutPart>) -> Result<ObjectId> {
        let first = convert::required(parts.next().await?, "a value's first part")?;
        let head = convert::required(first.head, "a value's head")?;
        let objects = &self.shared.objects;
        let job = head.job.as_ref().map(convert::job).transpose()?;
        let job = job.map(|id| self.shared.job(tenant, id)).transpose()?;
        let refs = head.refs.iter().map(|id| convert::object(id)).collect::<Result<Vec<_>>>()?;
        // What it names is held until it holds that itself; what another node owns has to be lent first.
        let _named = objects.hold_while(tenant, &refs)?;
        for id in refs.iter().filter(|id| id.task.owner != self.shared.id) {
            objects.ready(tenant, *id, Duration::ZERO).await?;
        }
        let id = objects.next_id()?;
        let mut incoming = Incoming::begin(objects, tenant, id, (head.descriptor, refs), head.size).await?;
        let mut data = first.data;
        loop {
            incoming.write(&data)?;
            let Some(part) = parts.next().await? else { break };
            data = part.data;
        }
        // Until it is kept for a time, or held by the job, if that has not ended meanwhile.
        let holder = job.as_ref().map_or(Holder::Kept, |job| Holder::Job(job.id));
        incoming.seal(objects, holder).await?;
        match job {
            Some(job) if job.has_ended() => objects.job_ended(job.id),
            Some(_) => {}
            None => objects.keep(tenant, id, Duration::from_nanos(head.keep_ns).min(KEEP_MAX))?,
        }
        // A tenant that was deleted before is found here, and of one that is deleted from now on its objects are looked for.
        self.shared.access.there(tenant).inspect_err(|_gone| objects.purge(tenant))?;
        Ok(id)
    }

    /// Sends a value, part by part.
    pub(super) async fn get_object(&self, mut visitor: Visitor, request: &msg::GetRequest) -> Result<Outbound<Result<msg::ObjectPart>>> {
        let id = convert::object(&request.object)?;
        let within = Duration::from_nanos(request.wait_ns).min(WAIT_MAX);
        let tenant = visitor.tenant.clone();
        let value = tokio::select! {
            value = self.shared.value(&tenant, id, within) => value?,
            error = visitor.ended(&self.shared.access) => return Err(error),
        };
        let (sender, outbound) = Outbound::channel(PARTS);
        let (shared, offset) = (self.shared.clone(), request.offset);
        self.shared.scope.spawn("object-sender", OnEnd::Continue, async move {
            tokio::select! {
                biased;
                error = visitor.ended(&shared.access) => {
                    // Whoever reads may be gone.
                    let _ = sender.send(Err(error)).await;
                }
                () = send(value, offset, &sender) => {}
            }
        });
        Ok(outbound)
    }
}
