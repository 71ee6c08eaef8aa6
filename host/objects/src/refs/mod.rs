//! Who holds which object, and where its copies are: one directory for each node.
//!
//! ```text
//!  jobs, drivers, tasks, objects      holders
//!            │                           │
//!            ▼       Borrow, Return      ▼        Copy, CopyGone
//!   directory of n2 ───────────────▶ directory of n1 ◀─────────────── directory of n3
//!   (borrows o1-…)  ◀─────────────── (owner of o1-…) ───────────────▶ (has a copy)
//!                     Lent, Gone                          Drop
//! ```
//!
//! An object has one owner, the node of its id. There its record lies, and there it is decided when it can be let go: when nobody holds it.
//! A node whose jobs or tasks hold objects of another owner borrows them: it is one holder at the owner, and has holders of its own. A node
//! that fetches a copy does so for the owner of the task that needs it, and keeps it until that says that it is not needed. What one node
//! holds at another are leases of its being there: all of it ends when the node is lost. If an owner is lost, whoever borrows an object and
//! has a copy takes the owner's place; an owner that begins anew learns of its objects from those who have copies.
//!
//! Objects name only objects that were ready before, so that there are no circles, and counting is enough.
//!
//! Everything here is deterministic and does nothing: no clock, no threads, no IO. Events come in by methods, and what is to be done comes
//! out by [`Directory::take_actions`].

mod entry;
mod message;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rwasm_types::{Code, Error, JobId, NodeId, ObjectId, Result, Tenant, api::UnixMs};

use self::entry::{Entry, Lender};
pub use self::{
    entry::{Holder, Meta, Row, State, row_bytes},
    message::{Action, Message},
};

/// The directory of a node.
#[derive(Debug)]
pub struct Directory {
    node: NodeId,
    entries: BTreeMap<ObjectId, Entry>,
    /// What each holder holds.
    held: BTreeMap<Holder, BTreeSet<ObjectId>>,
    /// When tenants' holds end.
    ends: BTreeSet<(UnixMs, ObjectId)>,
    /// Copies in this node's store that other directories had us fetch, or that tasks of theirs have made.
    kept: BTreeMap<ObjectId, Kept>,
    /// How often each other node was told which copies are here for it.
    stated: BTreeMap<NodeId, u64>,
    /// The number of the last such statement that was heard of each.
    heard: BTreeMap<NodeId, u64>,
    /// Whether those who held objects before this life may still come back.
    recovering: bool,
    /// The number of the last asking of another owner.
    asked: u64,
    /// What the rows of objects that are ready take.
    bytes: u64,
    actions: Vec<Action>,
}

/// A copy that others need.
#[derive(Debug)]
struct Kept {
    meta: Meta,
    needed_by: BTreeSet<NodeId>,
}

impl Directory {
    /// The directory of a node that begins. Until [`Directory::recovered`] is said, what others have of this node's objects is believed.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            entries: BTreeMap::new(),
            held: BTreeMap::new(),
            ends: BTreeSet::new(),
            kept: BTreeMap::new(),
            stated: BTreeMap::new(),
            heard: BTreeMap::new(),
            recovering: true,
            asked: 0,
            bytes: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// An object of this node is about to be made: from now on it can be held.
    pub fn expect(&mut self, id: ObjectId, tenant: &Tenant, holder: Holder) {
        self.entries.entry(id).or_insert_with(|| Entry::new(tenant.clone(), State::Pending));
        self.add_holder(id, holder);
    }

    /// An object is sealed, with its copy on a node, if it is not inline. Where it was expected and nobody holds it any more, or where it
    /// has been sealed before on another node, the copy is deleted again.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`] if it names an object of this node's that is not ready or not its tenant's; then nothing has changed.
    pub fn seal(&mut self, id: ObjectId, meta: Meta, at: NodeId, holder: Option<Holder>) -> Result<()> {
        // What another owner has is asked for: whoever names it holds it there until then.
        let elsewhere =
            |named: &ObjectId| named.task.owner != self.node && self.entries.get(named).is_none_or(|entry| entry.lender.is_some());
        let is_ready = |named: &ObjectId| self.look(&meta.tenant, *named).is_some_and(|state| *state != State::Pending);
        if let Some(unknown) = meta.refs.iter().find(|named| !elsewhere(named) && !is_ready(named)) {
            return Err(not_found(*unknown));
        }
        if let Some(holder) = holder {
            self.expect(id, &meta.tenant, holder);
        }
        self.sealed(id, meta, at);
        Ok(())
    }

    /// As [`Directory::seal`], of what was checked or comes from another directory.
    fn sealed(&mut self, id: ObjectId, meta: Meta, at: NodeId) {
        let inline = meta.inline.is_some();
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.tenant == meta.tenant) else {
            return self.not_wanted(id, at, inline);
        };
        match &entry.state {
            State::Pending => {
                if !inline {
                    entry.copies.insert(at);
                }
                self.became_ready(id, meta);
            }
            State::Ready(known) if *known == meta && !inline => {
                entry.copies.insert(at);
            }
            State::Ready(_) if entry.copies.contains(&at) => {}
            State::Ready(_) | State::Lost(_) => self.not_wanted(id, at, inline),
        }
    }

    fn not_wanted(&mut self, id: ObjectId, at: NodeId, inline: bool) {
        match () {
            () if inline => {}
            () if at == self.node => self.delete_unless_needed(id),
            () => self.say_drop(at, id),
        }
    }

    /// An object that was expected does not come to be.
    pub fn fail(&mut self, id: ObjectId, error: Error) {
        if self.entries.get(&id).is_some_and(|entry| entry.state == State::Pending) {
            self.lose(id, error);
        }
    }

    /// What is known of a tenant's object.
    pub fn look(&self, tenant: &Tenant, id: ObjectId) -> Option<&State> {
        self.entries.get(&id).filter(|entry| entry.tenant == *tenant).map(|entry| &entry.state)
    }

    /// Nodes that have a copy, as far as is known.
    pub fn copies(&self, id: ObjectId) -> impl Iterator<Item = NodeId> {
        self.entries.get(&id).into_iter().flat_map(|entry| entry.copies.iter().copied())
    }

    /// Holds an object of a tenant. One of another owner that is not held here yet is asked for: it is pending until that has answered.
    ///
    /// # Errors
    ///
    /// [`Code::NO_SUCH_OBJECT`] if it is this node's and not there, or another tenant's.
    pub fn hold(&mut self, tenant: &Tenant, id: ObjectId, holder: Holder) -> Result<()> {
        match self.entries.get(&id) {
            Some(entry) if entry.tenant == *tenant => {}
            // Of a borrowed one the asker has said whose it is, and the owner decides.
            Some(_) => return Err(not_found(id)),
            None if id.task.owner == self.node && self.recovering => self.remember(id, tenant),
            None if id.task.owner == self.node => return Err(not_found(id)),
            None => {
                self.asked += 1;
                let (node, number) = (id.task.owner, self.asked);
                let mut entry = Entry::new(tenant.clone(), State::Pending);
                entry.lender = Some(Lender { node, number });
                self.entries.insert(id, entry);
                self.actions.push(Action::Send(node, Message::Borrow { object: id, tenant: tenant.clone(), number }));
            }
        }
        self.add_holder(id, holder);
        Ok(())
    }

    /// Has a tenant hold an object of its own until a time, instead of until the time that was said before.
    ///
    /// # Errors
    ///
    /// As [`Directory::hold`].
    pub fn keep_until(&mut self, tenant: &Tenant, id: ObjectId, until: UnixMs) -> Result<()> {
        self.hold(tenant, id, Holder::Kept)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            if let Some(before) = entry.kept_until.replace(until) {
                self.ends.remove(&(before, id));
            }
            self.ends.insert((until, id));
        }
        Ok(())
    }

    /// A job has ended: what its results are and name, its tenant holds until a time, or longer where it does already. Says whether that was
    /// anything.
    pub fn keep_results(&mut self, job: JobId, until: UnixMs) -> bool {
        let results = Holder::Result(job.task(0))..=Holder::Result(job.task(u64::MAX));
        let held: Vec<(Holder, ObjectId)> =
            self.held.range(results).flat_map(|(holder, ids)| ids.iter().map(|id| (*holder, *id))).collect();
        for (holder, id) in &held {
            let Some(entry) = self.entries.get(id) else { continue };
            let (tenant, until) = (entry.tenant.clone(), entry.kept_until.map_or(until, |kept| kept.max(until)));
            // It is there, and its tenant's.
            let _ = self.keep_until(&tenant, *id, until);
            self.release(*id, *holder);
        }
        !held.is_empty()
    }

    /// When [`Directory::expire`] has something to do.
    pub fn next_end(&self) -> Option<UnixMs> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Ends tenants' holds whose time is over.
    pub fn expire(&mut self, now: UnixMs) {
        while let Some((_, id)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.release(id, Holder::Kept);
        }
    }

    /// Ends one hold.
    pub fn release(&mut self, id: ObjectId, holder: Holder) {
        let mut released = vec![(id, holder)];
        // A list instead of calls, for objects may name each other in long chains.
        while let Some((id, holder)) = released.pop() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            if !entry.holders.remove(&holder) {
                continue;
            }
            if holder == Holder::Kept
                && let Some(until) = entry.kept_until.take()
            {
                self.ends.remove(&(until, id));
            }
            if let Some(held) = self.held.get_mut(&holder) {
                held.remove(&id);
                if held.is_empty() {
                    self.held.remove(&holder);
                }
            }
            if self.entries.get(&id).is_some_and(|entry| entry.holders.is_empty()) {
                self.let_go(id);
                let named = self.held.get(&Holder::Object(id)).into_iter().flatten();
                released.extend(named.map(|named| (*named, Holder::Object(id))));
            }
        }
    }

    /// Ends its tenant's hold of an object, here and at the nodes that borrow it.
    pub fn unkeep(&mut self, id: ObjectId) {
        let borrowers = self.entries.get(&id).into_iter().flat_map(|entry| entry.borrowers.keys());
        self.actions.extend(borrowers.map(|node| Action::Send(*node, Message::Unkeep(id))));
        self.release(id, Holder::Kept);
    }

    /// Ends all that a holder holds.
    pub fn release_all(&mut self, holder: Holder) {
        let held: Vec<ObjectId> = self.held.get(&holder).into_iter().flatten().copied().collect();
        held.into_iter().for_each(|id| self.release(id, holder));
    }

    /// Those who held objects before this life have come back, or do not.
    pub fn recovered(&mut self) {
        self.recovering = false;
        self.release_all(Holder::Recovery);
        let unknown = |(id, entry): (&ObjectId, &Entry)| (entry.remembered && entry.state == State::Pending).then_some(*id);
        let unknown: Vec<ObjectId> = self.entries.iter().filter_map(unknown).collect();
        unknown.into_iter().for_each(|id| self.lose(id, lost(id, "its owner was lost, and no copy is left")));
    }

    /// All objects, in the order of their ids.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.entries.iter().map(|(id, entry)| entry.row(*id))
    }

    /// About what the rows of objects that are ready take of this process's memory, in bytes: types, refs, and values that are inline.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One object.
    pub fn row(&self, id: ObjectId) -> Option<Row<'_>> {
        self.entries.get(&id).map(|entry| entry.row(id))
    }

    /// Ends all holds of a tenant's objects.
    pub fn purge(&mut self, tenant: &Tenant) {
        let of_tenant = |(id, entry): (&ObjectId, &Entry)| {
            entry.holders.iter().filter(|_| entry.tenant == *tenant).map(|holder| (*id, *holder)).collect::<Vec<_>>()
        };
        let holds: Vec<(ObjectId, Holder)> = self.entries.iter().flat_map(of_tenant).collect();
        holds.into_iter().for_each(|(id, holder)| self.release(id, holder));
    }

    /// What a holder holds.
    pub fn held_by(&self, holder: Holder) -> impl Iterator<Item = ObjectId> {
        self.held.get(&holder).into_iter().flatten().copied()
    }

    /// The copy in this node's store is gone, though nobody said that it may go.
    pub fn copy_gone(&mut self, id: ObjectId) {
        if let Some(kept) = self.kept.remove(&id) {
            self.actions.extend(kept.needed_by.into_iter().map(|node| Action::Send(node, Message::CopyGone(id))));
        }
        self.without_copy(id, self.node);
    }

    /// Offers to give up a copy that other directories had us fetch. Those that have the bytes elsewhere answer, and when all have, it goes.
    pub fn spare(&mut self, id: ObjectId) {
        let needed_by = self.kept.get(&id).into_iter().flat_map(|kept| &kept.needed_by);
        self.actions.extend(needed_by.map(|node| Action::Send(*node, Message::Spare(id))));
    }

    /// Whether a copy in this node's store is there for another directory, as that was told.
    pub fn keeps_for(&self, id: ObjectId, node: NodeId) -> bool {
        self.kept.get(&id).is_some_and(|kept| kept.needed_by.contains(&node))
    }

    /// Whether a copy in this node's store is there for other directories.
    pub fn is_kept(&self, id: ObjectId) -> bool {
        self.kept.contains_key(&id)
    }

    /// Whether a node is told anything by a statement: it has lent something to this one, or had it fetch something.
    pub fn concerns(&self, node: NodeId) -> bool {
        let lent = |entry: &Entry| entry.lender.is_some_and(|lender| lender.node == node);
        self.kept.values().any(|kept| kept.needed_by.contains(&node)) || self.entries.values().any(lent)
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Somebody names an object that was there before this life.
    fn remember(&mut self, id: ObjectId, tenant: &Tenant) {
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(tenant.clone(), State::Pending));
        entry.remembered = entry.state == State::Pending;
    }

    /// An object is what it is from now on, and holds what it names.
    fn became_ready(&mut self, id: ObjectId, meta: Meta) {
        let (tenant, refs) = (meta.tenant.clone(), meta.refs.clone());
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let copies: Vec<NodeId> = entry.copies.iter().copied().collect();
        for (node, number) in &entry.borrowers {
            let lent = Message::Lent { object: id, number: *number, meta: meta.clone(), copies: copies.clone() };
            self.actions.push(Action::Send(*node, lent));
        }
        self.bytes += meta.bytes();
        entry.state = State::Ready(meta);
        entry.remembered = false;
        for named in refs.iter() {
            // One that is not there was lost with an earlier life: then it is not there for whoever follows the ref, either.
            let _ = self.hold(&tenant, *named, Holder::Object(id));
        }
        self.actions.push(Action::Ready(id));
    }

    fn add_holder(&mut self, id: ObjectId, holder: Holder) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.holders.insert(holder);
            self.held.entry(holder).or_default().insert(id);
        }
    }

    /// Nobody holds it any more: it goes, with its copies. What it names is released by the caller.
    fn let_go(&mut self, id: ObjectId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= entry.meta().map_or(0, Meta::bytes);
        if let Some(Lender { node, .. }) = entry.lender {
            self.actions.push(Action::Send(node, Message::Return(id)));
        }
        self.drop_copies(id, entry.copies);
    }

    fn drop_copies(&mut self, id: ObjectId, copies: BTreeSet<NodeId>) {
        for node in copies {
            if node == self.node {
                self.delete_unless_needed(id);
            } else {
                self.say_drop(node, id);
            }
        }
    }

    fn say_drop(&mut self, node: NodeId, id: ObjectId) {
        let heard = self.heard.get(&node).copied().unwrap_or_default();
        self.actions.push(Action::Send(node, Message::Drop(id, heard)));
    }

    /// Deletes the copy here, unless somebody else needs it.
    fn delete_unless_needed(&mut self, id: ObjectId) {
        let needed = self.kept.contains_key(&id) || self.entries.get(&id).is_some_and(|entry| entry.copies.contains(&self.node));
        if !needed {
            self.actions.push(Action::Delete(id));
        }
    }

    fn without_copy(&mut self, id: ObjectId, node: NodeId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // Of a borrowed object others may have copies: who needs one asks its owner.
        if entry.copies.remove(&node) && entry.lender.is_none() && entry.meta().is_some() && !entry.is_at_hand() {
            self.lose(id, lost(id, format_args!("node {node} had its last copy")));
        }
    }

    fn lose(&mut self, id: ObjectId, error: Error) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.bytes -= entry.meta().map_or(0, Meta::bytes);
        entry.state = State::Lost(error.clone());
        let (copies, borrowers) = (std::mem::take(&mut entry.copies), std::mem::take(&mut entry.borrowers));
        self.drop_copies(id, copies);
        self.actions.push(Action::Lost(id));
        // It names nothing any more.
        self.release_all(Holder::Object(id));
        // Whoever was told that it is gone does not give it back.
        for (node, number) in borrowers {
            self.actions.push(Action::Send(node, Message::Gone { object: id, number, error: error.clone() }));
            self.release(id, Holder::Node(node));
        }
    }
}

/// The error of an object that is not there, or is another tenant's: the two look the same.
pub fn not_found(id: ObjectId) -> Error {
    Error::new(Code::NO_SUCH_OBJECT, format!("there is no object {id}")).hint("`rwasm list objects` shows what there is").with("object", id)
}

/// The error of an object that is gone.
pub fn lost(id: ObjectId, why: impl std::fmt::Display) -> Error {
    Error::new(Code::OBJECT_LOST, format!("object {id} is lost: {why}")).with("object", id)
}
