//! Values on their way out to drivers.

use bytes::Bytes;
use rwasm_types::Result;
use rwasm_wire::{CHUNK_BYTES, Sender, convert, msg};

use super::Value;

/// Sends what of a value is behind an offset, as long as somebody reads.
pub(crate) async fn send(value: Value, offset: u64, sender: &Sender<Result<msg::ObjectPart>>) {
    let checksum = value.checksum().await;
    let mut head = Some(msg::ObjectHead {
        descriptor: value.meta.descriptor.clone(),
        size: value.meta.size,
        checksum: Bytes::copy_from_slice(&checksum),
        refs: value.meta.refs.iter().map(|id| convert::object_bytes(*id)).collect(),
    });
    let mut rest = value.bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    while head.is_some() || !rest.is_empty() {
        let (data, behind) = rest.split_at(rest.len().min(CHUNK_BYTES));
        let part = msg::ObjectPart { head: head.take(), data: Bytes::copy_from_slice(data) };
        if sender.send(Ok(part)).await.is_err() {
            return;
        }
        rest = behind;
    }
}
