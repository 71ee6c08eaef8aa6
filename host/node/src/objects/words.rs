//! What directories tell each other, as it travels: messages to words and back.
//!
//! Statements of all that a node holds may be long, so they travel in parts, which are put together before they are heard.

use std::collections::VecDeque;

use bytes::Bytes;
use rwasm_objects::refs::{Message, Meta};
use rwasm_types::{ObjectId, Result, Tenant};
use rwasm_wire::{
    convert::{self, object_bytes},
    msg::{self, object_word::Word},
};

/// The most objects in a part of a statement.
const PART: usize = 4096;
/// How many bytes of words are sent together, about; one word may be larger.
const FRAME_BYTES: usize = 1 << 20;

/// Takes messages out of a queue, as many as are sent together.
pub(super) fn frame(queue: &mut VecDeque<Message>) -> Vec<Message> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    while bytes < FRAME_BYTES
        && let Some(message) = queue.pop_front()
    {
        bytes += size(&message);
        taken.push(message);
    }
    taken
}

fn size(message: &Message) -> usize {
    let of = |meta: &Meta| 64 + meta.descriptor.len() + 20 * meta.refs.len() + meta.inline.as_ref().map_or(0, Bytes::len);
    match message {
        Message::Lent { meta, .. } | Message::Copy(_, meta) => of(meta),
        Message::Borrows(borrows) => 64 * borrows.len(),
        Message::Copies(_, copies) => copies.iter().map(|(_, meta)| of(meta)).sum(),
        _ => 64,
    }
}

/// The words of a message, in their order.
pub(super) fn words(message: Message) -> Vec<msg::ObjectWord> {
    let word = match message {
        Message::Borrows(borrows) => {
            let borrows = borrows.into_iter().map(|(object, tenant, number)| borrow(object, &tenant, number)).collect();
            return parts(borrows, |borrows, more| Word::Borrows(msg::Borrows { borrows, more }));
        }
        Message::Copies(number, copies) => {
            let copies = copies.iter().map(|(id, meta)| meta_message(*id, meta)).collect();
            return parts(copies, |copies, more| Word::Copies(msg::Copies { copies, more, number }));
        }
        Message::Borrow { object, tenant, number } => Word::Borrow(borrow(object, &tenant, number)),
        Message::Return(id) => Word::Return(object_bytes(id)),
        Message::Lent { object, number, meta, copies } => Word::Lent(msg::Lent {
            meta: Some(meta_message(object, &meta)),
            number,
            copies: copies.into_iter().map(rwasm_types::NodeId::get).collect(),
        }),
        Message::Gone { object, number, error } => {
            Word::Gone(msg::Gone { object: object_bytes(object), number, error: Some((&error).into()) })
        }
        Message::Copy(id, meta) => Word::Copy(meta_message(id, &meta)),
        Message::CopyGone(id) => Word::CopyGone(object_bytes(id)),
        Message::Drop(id, heard) => Word::Drop(msg::DropCopy { object: object_bytes(id), heard }),
        Message::Spare(id) => Word::Spare(object_bytes(id)),
        Message::Unkeep(id) => Word::Unkeep(object_bytes(id)),
    };
    vec![msg::ObjectWord { word: Some(word) }]
}

fn borrow(object: ObjectId, tenant: &Tenant, number: u64) -> msg::Borrow {
    msg::Borrow { object: object_bytes(object), tenant: tenant.to_string(), number }
}

fn meta_message(id: ObjectId, meta: &Meta) -> msg::ObjectMeta {
    msg::ObjectMeta {
        object: object_bytes(id),
        tenant: meta.tenant.to_string(),
        descriptor: meta.descriptor.clone(),
        size: meta.size,
        refs: meta.refs.iter().map(|id| object_bytes(*id)).collect(),
        inline: meta.inline.clone(),
    }
}

fn parts<T>(mut all: Vec<T>, word: impl Fn(Vec<T>, bool) -> Word) -> Vec<msg::ObjectWord> {
    let mut words = Vec::with_capacity(1 + all.len() / PART);
    loop {
        let rest = all.split_off(all.len().min(PART));
        let more = !rest.is_empty();
        words.push(msg::ObjectWord { word: Some(word(all, more)) });
        if !more {
            return words;
        }
        all = rest;
    }
}

/// Puts the parts of statements together that come from one node.
#[derive(Default)]
pub(super) struct Listener {
    borrows: Vec<(ObjectId, Tenant, u64)>,
    copies: Vec<(ObjectId, Meta)>,
}

impl Listener {
    /// The message that a word is, or is the last part of.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub(super) fn hear(&mut self, word: msg::ObjectWord) -> Result<Option<Message>> {
        Ok(Some(match convert::required(word.word, "a word about objects")? {
            Word::Borrow(borrow) => {
                let (object, tenant, number) = read_borrow(&borrow)?;
                Message::Borrow { object, tenant, number }
            }
            Word::Return(id) => Message::Return(convert::object(&id)?),
            Word::Borrows(msg::Borrows { borrows, more }) => {
                for borrow in &borrows {
                    self.borrows.push(read_borrow(borrow)?);
                }
                if more {
                    return Ok(None);
                }
                Message::Borrows(std::mem::take(&mut self.borrows))
            }
            Word::Lent(msg::Lent { meta, number, copies }) => {
                let (object, meta) = read_meta(convert::required(meta, "what is lent")?)?;
                let copies = copies.into_iter().map(convert::node).collect::<Result<_>>()?;
                Message::Lent { object, number, meta, copies }
            }
            Word::Gone(msg::Gone { object, number, error }) => {
                let error = convert::any_error(convert::required(error, "an error")?);
                Message::Gone { object: convert::object(&object)?, number, error }
            }
            Word::Copy(meta) => {
                let (id, meta) = read_meta(meta)?;
                Message::Copy(id, meta)
            }
            Word::CopyGone(id) => Message::CopyGone(convert::object(&id)?),
            Word::Copies(msg::Copies { copies, more, number }) => {
                for meta in copies {
                    self.copies.push(read_meta(meta)?);
                }
                if more {
                    return Ok(None);
                }
                Message::Copies(number, std::mem::take(&mut self.copies))
            }
            Word::Drop(msg::DropCopy { object, heard }) => Message::Drop(convert::object(&object)?, heard),
            Word::Spare(id) => Message::Spare(convert::object(&id)?),
            Word::Unkeep(id) => Message::Unkeep(convert::object(&id)?),
        }))
    }
}

fn read_borrow(borrow: &msg::Borrow) -> Result<(ObjectId, Tenant, u64)> {
    Ok((convert::object(&borrow.object)?, Tenant::new(&borrow.tenant).map_err(convert::malformed)?, borrow.number))
}

fn read_meta(meta: msg::ObjectMeta) -> Result<(ObjectId, Meta)> {
    let id = convert::object(&meta.object)?;
    let refs = meta.refs.iter().map(|id| convert::object(id)).collect::<Result<Vec<_>>>()?;
    let tenant = Tenant::new(&meta.tenant).map_err(convert::malformed)?;
    // Slices of the message would keep all of it.
    let (descriptor, inline) = (Bytes::copy_from_slice(&meta.descriptor), meta.inline.map(|inline| Bytes::copy_from_slice(&inline)));
    Ok((id, Meta { tenant, descriptor, size: meta.size, refs: refs.into(), inline }))
}

#[cfg(test)]
mod tests {
    use rwasm_types::{Code, Error};

    use super::*;

    fn id(sequence: u64) -> ObjectId {
        format!("o2-1-{sequence}-0").parse().unwrap()
    }

    fn meta(size: u64) -> Meta {
        let inline = (size < 10).then(|| Bytes::from_static(b"123"));
        Meta { tenant: Tenant::default(), descriptor: Bytes::from_static(b"\x01\x70\x7d"), size, refs: vec![id(7), id(8)].into(), inline }
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let many = 2 * PART as u64 + 1;
        let node = rwasm_types::NodeId::FIRST;
        let messages = [
            Message::Borrow { object: id(1), tenant: Tenant::default(), number: 4 },
            Message::Return(id(2)),
            Message::Borrows(Vec::new()),
            Message::Borrows((0..many).map(|number| (id(number), Tenant::default(), number)).collect()),
            Message::Lent { object: id(3), number: 5, meta: meta(3), copies: vec![node] },
            Message::Gone { object: id(4), number: 6, error: Error::new(Code::OBJECT_LOST, "gone") },
            Message::Copy(id(5), meta(1 << 40)),
            Message::CopyGone(id(6)),
            Message::Copies(9, Vec::new()),
            Message::Copies(10, (0..PART as u64).map(|number| (id(number), meta(100))).collect()),
            Message::Drop(id(7), 3),
            Message::Spare(id(8)),
            Message::Unkeep(id(9)),
        ];
        let mut queue: VecDeque<Message> = messages.iter().cloned().collect();
        let (mut listener, mut heard, mut frames) = (Listener::default(), Vec::new(), 0);
        while !queue.is_empty() {
            frames += 1;
            for word in frame(&mut queue).into_iter().flat_map(words) {
                heard.extend(listener.hear(word).unwrap());
            }
        }
        assert_eq!(heard, messages);
        assert!(frames < messages.len(), "they go together");
        assert!(listener.hear(msg::ObjectWord::default()).is_err());
    }
}
