//! What a directory hears of others, and what it does when they go.

use std::collections::BTreeSet;

use rwasm_types::{NodeId, ObjectId, Tenant};

use super::{Action, Directory, Entry, Holder, Kept, Lender, Message, Meta, State, lost, not_found};

impl Directory {
    /// A link to a node is there anew: what is said first on it.
    pub fn linked(&mut self, node: NodeId) {
        let borrowed = self.entries.iter().filter_map(|(id, entry)| {
            let Lender { number, .. } = entry.lender.filter(|lender| lender.node == node)?;
            Some((*id, entry.tenant.clone(), number))
        });
        let borrows = Message::Borrows(borrowed.collect());
        let copies = self.kept.iter().filter(|(_, kept)| kept.needed_by.contains(&node)).map(|(id, kept)| (*id, kept.meta.clone()));
        let stated = self.stated.entry(node).or_default();
        *stated += 1;
        let copies = Message::Copies(*stated, copies.collect());
        self.actions.extend([Action::Send(node, borrows), Action::Send(node, copies)]);
    }

    /// There is a copy in this node's store, fetched or made for a directory: another node's, or this one.
    pub fn copied(&mut self, id: ObjectId, meta: Meta, needed_by: NodeId) {
        if needed_by == self.node {
            return match self.entries.get_mut(&id) {
                Some(entry) if entry.meta() == Some(&meta) && meta.inline.is_none() => drop(entry.copies.insert(self.node)),
                _ => self.delete_unless_needed(id),
            };
        }
        let kept = self.kept.entry(id).or_insert_with(|| Kept { meta: meta.clone(), needed_by: BTreeSet::new() });
        // Said once, or what answers the first would be taken for an answer to the second.
        if kept.needed_by.insert(needed_by) {
            self.actions.push(Action::Send(needed_by, Message::Copy(id, meta)));
        }
    }

    /// A directory says something.
    pub fn hear(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Borrow { object, tenant, number } => self.borrowed(from, object, &tenant, number),
            Message::Return(object) => {
                if let Some(entry) = self.entries.get_mut(&object) {
                    entry.borrowers.remove(&from);
                }
                self.release(object, Holder::Node(from));
            }
            Message::Borrows(borrows) => {
                let named: BTreeSet<ObjectId> = borrows.iter().map(|(id, ..)| *id).collect();
                let returned: Vec<ObjectId> = self.held_by(Holder::Node(from)).filter(|id| !named.contains(id)).collect();
                returned.into_iter().for_each(|id| self.hear(from, Message::Return(id)));
                borrows.into_iter().for_each(|(id, tenant, number)| self.borrowed(from, id, &tenant, number));
            }
            Message::Lent { object, number, meta, copies } => self.lent(from, object, number, meta, copies),
            Message::Gone { object, number, error } => {
                if self.is_answer(from, object, number) {
                    self.give_up_lender(object, error);
                }
            }
            Message::Copy(object, meta) => self.named_copy(from, object, meta),
            Message::CopyGone(object) => self.without_copy(object, from),
            Message::Copies(number, copies) => {
                self.heard.insert(from, number);
                let named: BTreeSet<ObjectId> = copies.iter().map(|(id, _)| *id).collect();
                copies.into_iter().for_each(|(id, meta)| self.named_copy(from, id, meta));
                let gone = |(id, entry): (&ObjectId, &Entry)| (entry.copies.contains(&from) && !named.contains(id)).then_some(*id);
                let gone: Vec<ObjectId> = self.entries.iter().filter_map(gone).collect();
                gone.into_iter().for_each(|id| self.without_copy(id, from));
            }
            Message::Drop(object, heard) => {
                if heard >= self.stated.get(&from).copied().unwrap_or_default() {
                    self.not_needed_by(from, object);
                }
            }
            Message::Spare(object) => self.spared(from, object),
            Message::Unkeep(object) => {
                if self.entries.get(&object).is_some_and(|entry| entry.lender.is_some_and(|lender| lender.node == from)) {
                    self.unkeep(object);
                }
            }
        }
    }

    /// A node is lost, with all it had and held.
    pub fn node_lost(&mut self, node: NodeId) {
        self.heard.remove(&node);
        let borrowed: Vec<ObjectId> = self.held_by(Holder::Node(node)).collect();
        borrowed.into_iter().for_each(|id| self.hear(node, Message::Return(id)));
        let kept: Vec<ObjectId> = self.kept.iter().filter(|(_, kept)| kept.needed_by.contains(&node)).map(|(id, _)| *id).collect();
        kept.into_iter().for_each(|id| self.not_needed_by(node, id));
        let had_copy: Vec<ObjectId> = self.entries.iter().filter(|(_, entry)| entry.copies.contains(&node)).map(|(id, _)| *id).collect();
        had_copy.into_iter().for_each(|id| self.without_copy(id, node));
        let lent = |entry: &Entry| entry.lender.is_some_and(|lender| lender.node == node);
        let lent: Vec<ObjectId> = self.entries.iter().filter(|(_, entry)| lent(entry)).map(|(id, _)| *id).collect();
        lent.into_iter().for_each(|id| self.give_up_lender(id, lost(id, format_args!("its owner, node {node}, is gone"))));
    }

    /// A node wants to hold one of ours.
    fn borrowed(&mut self, from: NodeId, id: ObjectId, tenant: &Tenant, number: u64) {
        let gone = |error| Action::Send(from, Message::Gone { object: id, number, error });
        if !self.entries.contains_key(&id) && self.recovering && id.task.owner == self.node {
            // Whoever has a copy may not have said so yet.
            self.remember(id, tenant);
        }
        match self.entries.get_mut(&id).filter(|entry| entry.tenant == *tenant && entry.lender.is_none()) {
            None => self.actions.push(gone(not_found(id))),
            Some(entry) => match &entry.state {
                State::Lost(error) => {
                    let error = error.clone();
                    self.actions.push(gone(error));
                }
                State::Pending => {
                    entry.borrowers.insert(from, number);
                    self.add_holder(id, Holder::Node(from));
                }
                State::Ready(meta) => {
                    entry.borrowers.insert(from, number);
                    let lent = Message::Lent { object: id, number, meta: meta.clone(), copies: entry.copies.iter().copied().collect() };
                    self.actions.push(Action::Send(from, lent));
                    self.add_holder(id, Holder::Node(from));
                }
            },
        }
    }

    fn is_answer(&self, from: NodeId, id: ObjectId, number: u64) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.lender == Some(Lender { node: from, number }))
    }

    fn lent(&mut self, from: NodeId, id: ObjectId, number: u64, meta: Meta, copies: Vec<NodeId>) {
        if !self.is_answer(from, id, number) {
            return;
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // The owner's copies are the owner's; what is here for us stays known.
        if entry.state == State::Pending && entry.tenant == meta.tenant {
            // We hold what it names ourselves from now on: it must be there if we ever take the owner's place.
            self.became_ready(id, meta);
        }
        self.actions.push(Action::Places(id, copies));
    }

    /// The owner of a borrowed object has it no more, or is no more: if its bytes are at hand, we take the owner's place.
    fn give_up_lender(&mut self, id: ObjectId, error: rwasm_types::Error) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.lender = None;
        if !entry.is_at_hand() {
            self.lose(id, error);
        }
    }

    fn named_copy(&mut self, from: NodeId, id: ObjectId, meta: Meta) {
        let ours = id.task.owner == self.node;
        if self.recovering && ours {
            self.remember(id, &meta.tenant);
            if self.entries.get(&id).is_some_and(|entry| entry.remembered) {
                self.add_holder(id, Holder::Recovery);
            }
        }
        self.sealed(id, meta, from);
    }

    fn not_needed_by(&mut self, node: NodeId, id: ObjectId) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        kept.needed_by.remove(&node);
        if kept.needed_by.is_empty() {
            self.kept.remove(&id);
            self.delete_unless_needed(id);
        }
    }

    /// A node would give up its copy. It may, unless that is the last that is known here of an object that is ours.
    fn spared(&mut self, from: NodeId, id: ObjectId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let others = entry.copies.iter().any(|node| *node != from);
        if (others || entry.lender.is_some()) && entry.copies.remove(&from) {
            self.say_drop(from, id);
        }
    }

    /// Whether nothing is known and nothing kept: what a directory comes to when all that held anything has gone.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.kept.is_empty() && self.held.is_empty() && self.ends.is_empty()
    }
}
