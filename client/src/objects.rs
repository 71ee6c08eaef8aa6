//! Objects: values that are stored with the cluster and read from there, part by part.

use std::time::Duration;

use bytes::Bytes;
use rwasm_types::{Code, Error, JobId, ObjectId, Result};
use rwasm_values::{Limits, Ref, Returned, Type, codec};
use rwasm_wire::{CHUNK_BYTES, Inbound, Outbound, convert, msg};

use crate::Client;

/// Parts that may wait for the network.
const PARTS: usize = 4;
/// The pause before a read that broke goes on.
const RETRY: Duration = Duration::from_millis(200);

/// Who holds an object that is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A job of this gateway, until it ends.
    Job(JobId),
    /// The tenant, for so long.
    Tenant(Duration),
}

/// An object on its way from the cluster.
#[derive(Debug)]
pub struct ObjectReader {
    client: Client,
    id: ObjectId,
    ty: Type,
    size: u64,
    refs: Vec<ObjectId>,
    checksum: Bytes,
    parts: Inbound<msg::ObjectPart>,
    /// What came with the head.
    first: Bytes,
    read: u64,
    hasher: blake3::Hasher,
}

impl Client {
    /// Stores a value in its stored form, which takes as long as the cluster has room for it.
    ///
    /// # Errors
    ///
    /// Why the cluster does not take it: it is no value of the type, it names objects that are not there, or there is no room.
    pub async fn put(&self, ty: &Type, stored: Bytes, refs: &[ObjectId], hold: Hold) -> Result<ObjectId> {
        let size = stored.len() as u64;
        let mut rest = stored;
        self.put_parts(ty, size, refs, hold, async move || {
            let part = rest.split_to(rest.len().min(CHUNK_BYTES));
            Ok((!part.is_empty()).then_some(part))
        })
        .await
    }

    /// The same, of a value of so many bytes that comes in parts.
    ///
    /// # Errors
    ///
    /// As [`Client::put`], or what `next` says.
    pub async fn put_parts(
        &self,
        ty: &Type,
        size: u64,
        refs: &[ObjectId],
        hold: Hold,
        mut next: impl AsyncFnMut() -> Result<Option<Bytes>>,
    ) -> Result<ObjectId> {
        let (job, keep) = match hold {
            Hold::Job(job) => (Some(job.into()), Duration::ZERO),
            Hold::Tenant(keep) => (None, keep),
        };
        let mut head = Some(msg::PutHead {
            descriptor: ty.encode().into(),
            size,
            refs: refs.iter().map(|id| convert::object_bytes(*id)).collect(),
            job,
            keep_ns: convert::nanos(keep),
        });
        let (sender, outbound) = Outbound::channel(PARTS);
        let mut gateway = self.gateway.clone();
        let send = async {
            loop {
                let data = next().await?;
                if data.is_none() && head.is_none() {
                    drop(sender);
                    return Ok(());
                }
                let part = msg::PutPart { head: head.take(), data: data.unwrap_or_default() };
                // Whoever refuses it says why in the answer.
                if sender.send(part).await.is_err() {
                    return Ok(());
                }
            }
        };
        let put = std::pin::pin!(gateway.put(outbound));
        let mut send = std::pin::pin!(send);
        let mut put = put;
        tokio::select! {
            put = &mut put => put,
            // What cannot be read is not stored: the stream ends too soon, and the cluster drops what came.
            sent = &mut send => {
                sent?;
                put.await
            }
        }
    }

    /// Begins to read an object, once it is ready.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`], [`Code::OBJECT_LOST`], or [`Code::OBJECT_DEADLINE`] if it is not ready within that time.
    pub async fn get(&self, id: ObjectId, within: Duration) -> Result<ObjectReader> {
        let (head, parts, first) = self.get_from(id, 0, within).await?;
        Ok(ObjectReader {
            client: self.clone(),
            id,
            ty: Type::decode(&head.descriptor)?,
            size: head.size,
            refs: head.refs.iter().map(|id| convert::object(id)).collect::<Result<_>>()?,
            checksum: head.checksum,
            parts,
            first,
            read: 0,
            hasher: blake3::Hasher::new(),
        })
    }

    async fn get_from(&self, id: ObjectId, offset: u64, within: Duration) -> Result<(msg::ObjectHead, Inbound<msg::ObjectPart>, Bytes)> {
        let request = msg::GetRequest { object: convert::object_bytes(id), offset, wait_ns: convert::nanos(within) };
        let mut parts = self.gateway.clone().get(request).await?;
        let first = convert::required(parts.next().await?, "an object's first part")?;
        Ok((convert::required(first.head, "an object's head")?, parts, first.data))
    }
}

impl ObjectReader {
    /// Its type.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Bytes of its stored form.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes of its stored form; `None` when all have come and are what was stored. Where the connection breaks, it is tried to go
    /// on from there.
    ///
    /// # Errors
    ///
    /// [`Code::OBJECT_DAMAGED`] if they are not, or why the rest cannot be had.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let data = std::mem::take(&mut self.first);
            let data = if data.is_empty() && self.read < self.size {
                match self.parts.next().await {
                    Ok(Some(part)) => part.data,
                    Ok(None) => {
                        self.again(Error::new(Code::CONNECTION_LOST, "the gateway closed the connection")).await?;
                        continue;
                    }
                    Err(error) => {
                        self.again(error).await?;
                        continue;
                    }
                }
            } else {
                data
            };
            if data.is_empty() && self.read < self.size {
                continue;
            }
            if data.is_empty() {
                return self.whole().map(|()| None);
            }
            self.read += data.len() as u64;
            if self.read > self.size {
                return Err(self.damaged());
            }
            self.hasher.update(&data);
            return Ok(Some(data));
        }
    }

    /// Goes on after a break, if that may help.
    async fn again(&mut self, broken: Error) -> Result<()> {
        let until = tokio::time::Instant::now() + self.client.reconnect;
        if broken.code() != Code::CONNECTION_LOST {
            return Err(broken);
        }
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(RETRY).await;
            match self.client.get_from(self.id, self.read, Duration::ZERO).await {
                Ok((head, parts, first)) if head.checksum == self.checksum => {
                    (self.parts, self.first) = (parts, first);
                    return Ok(());
                }
                Ok(_) => return Err(self.damaged()),
                Err(error) if matches!(error.code(), Code::CONNECTION_LOST | Code::UNREACHABLE) => {}
                Err(error) => return Err(error),
            }
        }
        Err(broken)
    }

    fn whole(&self) -> Result<()> {
        if *self.hasher.finalize().as_bytes() == *self.checksum { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> Error {
        Error::new(Code::OBJECT_DAMAGED, format!("the bytes of object {} that came are not those that were sealed", self.id))
            .with("object", self.id)
    }

    /// All of it, decoded.
    ///
    /// # Errors
    ///
    /// As [`ObjectReader::next`], or [`Code::VALUE_TOO_LARGE`] if it has more parts than may be decoded.
    pub async fn value(mut self) -> Result<(Type, Returned)> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default().min(PREALLOCATED_MAX));
        while let Some(part) = self.next().await? {
            bytes.extend_from_slice(&part);
        }
        let refs: Vec<Ref> = self.refs.iter().copied().map(Ref::Object).collect();
        let limits = Limits { bytes: usize::MAX, ..Limits::default() };
        let value = codec::decode_stored(&self.ty, &bytes.into(), &refs, &limits)?;
        Ok((self.ty, Returned { refs, value: Some(value) }))
    }
}

/// What is set aside before the first byte came, whatever was announced.
const PREALLOCATED_MAX: usize = 64 << 20;
